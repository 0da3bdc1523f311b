// Plain loops of 16 for the compiler to turn into vector instructions; for float and double no compiler makes a
// compare-and-gather-bits of them, so there it is spelled out in SSE2, which every x86-64 has.
#include <cstring>

#include "hamming/cpu/cpu.h"
#include "hamming/kernels/target.h"
#include "hamming/pack/pack.h"
#include "hamming/pack/sse2.h"

namespace pyhash {
namespace {

// Maps the bits of a float16 to an integer of the same order (-0 just below 0).
inline int16_t order_of_half(uint16_t bits) {
    const uint16_t all_or_none = static_cast<uint16_t>(static_cast<int16_t>(bits) >> 15);
    return static_cast<int16_t>(bits ^ (all_or_none & 0x7fff));
}

inline uint8_t joined(const uint8_t* marks) {
    uint64_t eight;
    std::memcpy(&eight, marks, sizeof eight);
    return static_cast<uint8_t>((eight * 0x0101010101010101u) >> 56);
}

// above(x, limit) is 0 or 1; bad(x) is not 0 for NaN.
template <class Number, class Limit, class Above, class Bad>
inline int pack_tile(const Number* x, const Limit* t, uint8_t* code, const Above& above, const Bad& bad) {
    uint8_t marks[kTileColumns];
    int nan = 0;
    for (size_t i = 0; i < kTileColumns; ++i) {
        marks[i] = static_cast<uint8_t>((128 >> (i & 7)) & -static_cast<int>(above(x[i], t[i])));
        nan |= bad(x[i]);
    }
    code[0] = joined(marks);
    code[1] = joined(marks + 8);
    return nan;
}

template <class Number, class Limit, class Tile>
inline int each_tile(const Number* x, const Limit* t, size_t step, uint8_t* code, size_t n, const Tile& tile) {
    int nan = 0;
    for (size_t i = 0; i < n; ++i, x += kTileColumns, t += step, code += 2) nan |= tile(x, t, code);
    return nan;
}

int pack_f16(const uint16_t* x, const uint16_t* t, size_t step, uint8_t* code, size_t n) {
    return each_tile(x, t, step, code, n, [](const uint16_t* x16, const uint16_t* t16, uint8_t* two) {
        return pack_tile(
            x16, t16, two, [](uint16_t a, uint16_t b) { return order_of_half(a) > order_of_half(b); },
            [](uint16_t a) { return static_cast<int>((a & 0x7fff) > 0x7c00); });
    });
}

template <class Float>
int pack_float(const Float* x, const Float* t, size_t step, uint8_t* code, size_t n) {
    return each_tile(x, t, step, code, n, [](const Float* x16, const Float* t16, uint8_t* two) {
#if defined(PYHASH_SSE2)
        return sse2::pack_tile(x16, t16, two);
#else
        return pack_tile(
            x16, t16, two, [](Float a, Float b) { return a > b; }, [](Float a) { return static_cast<int>(a != a); });
#endif
    });
}

template <class Byte>
int pack_byte(const Byte* x, const int16_t* t, size_t step, uint8_t* code, size_t n) {
    return each_tile(x, t, step, code, n, [](const Byte* x16, const int16_t* t16, uint8_t* two) {
        return pack_tile(
            x16, t16, two, [](Byte a, int16_t b) { return a > b; }, [](Byte) { return 0; });
    });
}

}  // namespace

const PackKernel kScalarPack = {"scalar",          0, pack_f16, pack_float<float>, pack_float<double>, pack_byte<int8_t>,
                                pack_byte<uint8_t>};

const PackKernel& pack_kernel(const char* name) {
#if (defined(__x86_64__) || defined(_M_X64)) && defined(PYHASH_VECTOR_EXTENSIONS)
    const bool may = name == nullptr || std::strcmp(name, kScalarPack.name) != 0;
    if (may && (cpu_features() & kAvx2Pack.features) == kAvx2Pack.features) return kAvx2Pack;
#else
    static_cast<void>(name);
#endif
    return kScalarPack;
}

}  // namespace pyhash
