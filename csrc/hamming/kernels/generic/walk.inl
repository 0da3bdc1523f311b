// The walk of a join (walk.h), included in the namespace of each kernel, so that it is compiled for its instructions.
//
// Included after uint64_t count_bits(uint64_t). What compares one code with several in a row is a `Near`:
//
//     template <class Take>
//     static void compare(const Walk&, const uint64_t* row, size_t row_stride, size_t begin, size_t end, const Take&);
//
// take(c, distance) is called for each of [begin, end) within the radius. OneByOne does for any instruction set.

struct OneByOne {
    template <class Take>
    static void compare(const Walk& walk, const uint64_t* row, size_t row_stride, size_t begin, size_t end, const Take& take) {
        for (size_t c = begin; c < end; ++c) {
            uint64_t distance = 0;
            if (walk.n_terms == 0) {
                for (size_t w = 0; w < walk.n_words && distance <= walk.radius; ++w)
                    distance += count_bits(row[w * row_stride] ^ walk.words[w * walk.stride + c]);
            } else {
                for (size_t t = 0; t < walk.n_terms && distance <= walk.radius; ++t) {
                    const Term& term = walk.terms[t];
                    const uint64_t difference = row[term.word * row_stride] ^ walk.words[term.word * walk.stride + c];
                    distance += uint64_t{term.weight} * count_bits(difference & term.mask);
                }
            }
            if (distance <= walk.radius) take(c, static_cast<uint32_t>(distance));
        }
    }
};

inline bool met_before(const Walk& walk, const uint64_t* row, size_t row_stride, size_t c) {
    for (size_t k = 0; k < walk.n_earlier; ++k) {
        uint32_t differing = 0;
        for (size_t w = 0; w < walk.n_words; ++w)
            differing += static_cast<uint32_t>(
                count_bits((row[w * row_stride] ^ walk.words[w * walk.stride + c]) & walk.earlier[k * walk.n_words + w]));
        if (differing <= walk.reaches[k]) return true;
    }
    return false;
}

// Compares code or row `a` with the codes [begin, end) and keeps what is near and was not taken before.
template <class Near>
inline void meet(const Walk& walk, size_t a, const uint64_t* row, size_t row_stride, size_t begin, size_t end, NearPairs& found) {
    Near::compare(walk, row, row_stride, begin, end, [&](size_t c, uint32_t distance) {
        if (met_before(walk, row, row_stride, c)) return;
        found.pairs[found.n++] = {static_cast<uint32_t>(a), static_cast<uint32_t>(c), distance};
        if (found.n == NearPairs::kRoom) found.empty(found);
    });
}

template <class Near>
void walk_buckets(const Walk& walk, const uint32_t* differences, size_t n_differences, size_t begin, size_t end,
                  NearPairs& found) {
    constexpr size_t kMost = size_t{1} << 24;  // pairs between two calls of `empty`, where a call that is to stop is left
    size_t compared = 0;
    // Differences outside, buckets inside: both buckets of a pair then come in ascending order.
    for (size_t d = 0; d < n_differences; ++d)
        for (size_t v = begin; v < end; ++v) {
            const size_t other = v ^ differences[d];
            if (other < v) continue;  // the other one looks at this one
            const size_t first = walk.starts[v];
            const size_t last = walk.starts[v + 1];
            const size_t other_end = walk.starts[other + 1];
            if (first == last) continue;
            for (size_t a = first; a < last; ++a) {
                const size_t from = other == v ? a + 1 : walk.starts[other];
                if (from >= other_end) continue;
                meet<Near>(walk, a, walk.words + a, walk.stride, from, other_end, found);
                compared += other_end - from;
                if (compared < kMost) continue;
                found.empty(found);
                compared = 0;
            }
        }
}

template <class Near>
void walk_rows(const Walk& walk, const uint64_t* rows, size_t row_stride, const uint32_t* values, size_t n,
               const uint32_t* differences, size_t n_differences, const uint64_t* full, NearPairs& found) {
    // Differences outside, rows inside: the memory of one row is waited for while others are compared.
    for (size_t d = 0; d < n_differences; ++d)
        for (size_t a = 0; a < n; ++a) {
            const uint32_t v = values[a] ^ differences[d];
            if ((full[v / 64] >> v % 64 & 1) != 0)
                meet<Near>(walk, a, rows + a, row_stride, walk.starts[v], walk.starts[v + 1], found);
        }
}
