// What C++17 has no name for, for code outside the kernels.
#pragma once

#include <cstdint>

#if defined(_MSC_VER)
#include <intrin.h>
#endif

namespace pyhash {

inline unsigned count_trailing_zeros(uint64_t x) {  // x is not 0
#if defined(_MSC_VER)
    unsigned long index = 0;
    _BitScanForward64(&index, x);
    return index;
#else
    return static_cast<unsigned>(__builtin_ctzll(x));
#endif
}

inline unsigned popcount(uint64_t x) {
    x -= (x >> 1) & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + ((x >> 2) & 0x3333333333333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return static_cast<unsigned>((x * 0x0101010101010101u) >> 56);  // the sum of eight bytes, at most 64
}

// Asks for a cache line that will be read soon.
inline void prefetch(const void* p) {
#if defined(_MSC_VER) && defined(_M_X64)
    _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0);
#elif defined(_MSC_VER)
    __prefetch(p);
#else
    __builtin_prefetch(p);
#endif
}

}  // namespace pyhash
