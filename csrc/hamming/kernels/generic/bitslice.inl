// The bit-sliced kernel: many queries against the same codes, without counting a single bit.
//
// Included by each kernel inside its own namespace and target region, where V (a vector of 64-bit words), majority() and
// parity() are defined.
//
// A group of 8 * sizeof(V) codes is turned into bit planes: plane p_i holds bit i of every code, one code a bit. With y_i
// the query's bit i, the distance is d = sum of (p_i ^ y_i), and "d >= tau" is the carry out of d + C for C = 2^m - tau,
// where 2^m is at least the number of bits. So for all codes at once: add bits, watch one carry.
//
// Step one eats two planes at a time. A full adder of s, a = p ^ y and b = p' ^ y' leaves s ^ a ^ b and carries
// majority(s, a, b), worth 2. Complementing an input complements the sum and nothing else, so the chain of sums, begun with
// bit 0 of C, is t ^ x: t does not depend on the query (t = t ^ p ^ p'), and x, the parity of bit 0 of C and the query's
// bits so far, does not depend on the codes. A carry is therefore one of 2^3 = 8 variants, chosen by (x, y, y'). All are
// computed once a group and shared by all queries (the "Four Russians" trade: tables for all small cases).
//
// Step two, per query: look up its n_bits / 2 carries and add them, with the other bits of C, by carry-save adders. A number
// of weight 2^(l+1) is made of two of weight 2^l and the sum that stays at that level, and only the last carry is wanted:
// Counter::carry below is the whole tree. There is no overflow to lose: d <= 2^m and C = 2^m - tau with tau >= 1 make
// d + C <= 2^(m+1) - 1, one bit above 2^m - 1.

// One step of a 64 x 64 transposition in every word of the vectors: of a pair of rows, what the mask leaves out of the first
// changes places with what it lets through of the second.
template <int Distance>
PYHASH_ALWAYS_INLINE void swap_bits(V& low, V& high, uint64_t mask) {
    const V t = ((low >> Distance) ^ high) & (V{} + mask);
    high ^= t;
    low ^= t << Distance;
}

// Three steps at once: rows that lie Distance / 4 apart are mixed among themselves, eight by eight, and stay in registers.
template <int Distance>
PYHASH_ALWAYS_INLINE void swap_three(V (&r)[8], uint64_t halves, uint64_t quarters, uint64_t eighths) {
    for (int j = 0; j < 4; ++j) swap_bits<Distance>(r[j], r[j + 4], halves);
    for (int j = 0; j < 4; ++j) swap_bits<Distance / 2>(r[j + (j & 2)], r[j + (j & 2) + 2], quarters);
    for (int j = 0; j < 8; j += 2) swap_bits<Distance / 4>(r[j], r[j + 1], eighths);
}

constexpr size_t kGroup = sizeof(V) / sizeof(uint64_t);  // blocks worked on together

void build_tables(const uint64_t* blocks, size_t n_words, void* tables) {
    constexpr size_t rows_per_block = 64 / kGroup;
    V* out = static_cast<V*>(tables);
    V t = V{};
    for (size_t w = 0; w < n_words; ++w) {
        V rows[64];
        for (size_t k = 0; k < 8; ++k) {
            V r[8];
            for (size_t j = 0; j < 8; ++j) {
                const size_t row = k + 8 * j;
                const uint64_t* block = blocks + (row / rows_per_block * n_words + w) * kLanes;
                __builtin_memcpy(r + j, block + row % rows_per_block * kGroup, sizeof(V));
            }
            swap_three<32>(r, 0x00000000ffffffffu, 0x0000ffff0000ffffu, 0x00ff00ff00ff00ffu);
            for (size_t j = 0; j < 8; ++j) rows[k + 8 * j] = r[j];
        }
        for (size_t i = 0; i < 64; i += 8) {
            V r[8];
            for (size_t j = 0; j < 8; ++j) r[j] = rows[i + j];
            swap_three<4>(r, 0x0f0f0f0f0f0f0f0fu, 0x3333333333333333u, 0x5555555555555555u);
            for (size_t j = 0; j < 8; j += 2, out += 8) {
                const V p = r[j];
                const V q = r[j + 1];
                // Variant x + 2 y + 4 y'; complementing all three inputs complements the carry.
                out[0] = majority(t, p, q);
                out[1] = majority(~t, p, q);
                out[2] = majority(t, ~p, q);
                out[4] = majority(t, p, ~q);
                out[7] = ~out[0];
                out[6] = ~out[1];
                out[5] = ~out[2];
                out[3] = ~out[4];
                t = parity(t, p, q);
            }
        }
    }
}

template <size_t Words>
struct Counter {
    static constexpr size_t kItems = 32 * Words;  // carries looked up, each worth 2
    static constexpr int kTop = sliced_top(Words);

    const char* tables;
    const uint8_t* offsets;
    V sums[kTop];  // at level l: what stays, worth 2^l; begins with bit l of C

    // Number I of weight 2^Level.
    template <int Level, size_t I>
    PYHASH_ALWAYS_INLINE V carry() {
        if constexpr (Level == 1) {
            return *reinterpret_cast<const V*>(tables + I * 8 * sizeof(V) + offsets[I] * (sizeof(V) / 8));
        } else {
            constexpr size_t items_below = size_t{1} << (Level - 2);
            V& sum = sums[Level - 1];
            const V a = carry<Level - 1, 2 * I>();
            if constexpr ((2 * I + 1) * items_below < kItems) {
                const V b = carry<Level - 1, 2 * I + 1>();
                const V out = majority(sum, a, b);
                sum = parity(sum, a, b);
                return out;
            } else {  // where the number of words is no power of two
                const V out = sum & a;
                sum ^= a;
                return out;
            }
        }
    }
};

// The first query in [begin, end) with a code at distance < tau in the group, and in which of its blocks.
template <size_t Words>
size_t find_sliced(const void* tables, const uint8_t* queries, size_t begin, size_t end, uint32_t& hit_blocks) {
    constexpr size_t stride = sliced_stride(Words);
    for (size_t j = begin; j < end; ++j) {
        const uint8_t* record = queries + j * stride;
        Counter<Words> counter;
        counter.tables = static_cast<const char*>(tables);
        counter.offsets = record + kSlicedConstants * sizeof(uint64_t);
        for (int l = 1; l < Counter<Words>::kTop; ++l)
            counter.sums[l] = V{} + reinterpret_cast<const uint64_t*>(record)[l];
        const V near = ~counter.template carry<Counter<Words>::kTop, 0>();
        if (any_bit(near)) {
            uint64_t bits = 0;  // bit k stands for codes k * kGroup ... of the group
            for (size_t i = 0; i < kGroup; ++i) bits |= near[i];
            constexpr size_t bits_per_block = 64 / kGroup;
            constexpr uint64_t block_mask = ~uint64_t{0} >> (64 - bits_per_block);
            hit_blocks = 0;
            for (size_t b = 0; b < kGroup; ++b)
                hit_blocks |= static_cast<uint32_t>(((bits >> (b * bits_per_block)) & block_mask) != 0) << b;
            return j;
        }
    }
    return end;
}

const Slicer kSlicer = {
    kGroup,
    256 * sizeof(V),
    build_tables,
    {nullptr, find_sliced<1>, find_sliced<2>, find_sliced<3>, find_sliced<4>, find_sliced<5>, find_sliced<6>, find_sliced<7>,
     find_sliced<8>},
};
