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

// v[k] bit j of each word <-> v[j] bit k: a 64 x 64 transposition in every word of the vectors, halves, quarters, ... swapped.
template <int Distance>
inline void swap_bits(V* v, uint64_t mask) {
    const V m = V{} + mask;
    for (int k = 0; k < 64; k = ((k | Distance) + 1) & ~Distance) {
        const V t = ((v[k] >> Distance) ^ v[k | Distance]) & m;
        v[k | Distance] ^= t;
        v[k] ^= t << Distance;
    }
}

constexpr size_t kGroup = sizeof(V) / sizeof(uint64_t);  // blocks worked on together

void build_tables(const uint64_t* blocks, size_t n_words, void* tables) {
    V* out = static_cast<V*>(tables);
    V t = V{};
    for (size_t w = 0; w < n_words; ++w) {
        V v[64];
        for (size_t b = 0; b < kGroup; ++b)
            __builtin_memcpy(v + b * (64 / kGroup), blocks + (b * n_words + w) * kLanes, kLanes * sizeof(uint64_t));
        swap_bits<32>(v, 0x00000000ffffffffu);
        swap_bits<16>(v, 0x0000ffff0000ffffu);
        swap_bits<8>(v, 0x00ff00ff00ff00ffu);
        swap_bits<4>(v, 0x0f0f0f0f0f0f0f0fu);
        swap_bits<2>(v, 0x3333333333333333u);
        swap_bits<1>(v, 0x5555555555555555u);
        for (size_t i = 0; i < 32; ++i, out += 8) {
            const V p = v[2 * i];
            const V q = v[2 * i + 1];
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
