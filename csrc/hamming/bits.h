// Two bit operations that C++17 lacks, for code outside the kernels.
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
    unsigned n = 0;
    for (; x != 0; x &= x - 1) ++n;
    return n;
}

}  // namespace pyhash
