// Turning numbers into bits: one instruction set is one value of `PackKernel`, as one of search is a `Kernel`.
//
// Columns are taken in tiles of 16, two bytes of a code, column 0 in the highest bit of byte 0. A bit is set where the number is
// above its limit. Numbers are float, double, int8, uint8, and float16 as the bits of one; limits of 8-bit numbers are int16,
// and no limit of float16 is -0.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pyhash {

constexpr size_t kTileColumns = 16;

// Packs n tiles that follow one another; from the limits of one to those of the next are `step` entries, 0 or 16.
// Returns whether a number is NaN: not 0 then.
template <class Number, class Limit>
using PackFn = int (*)(const Number* numbers, const Limit* limits, size_t step, uint8_t* code, size_t n);

struct PackKernel {
    const char* name;
    uint32_t features;  // all of these must be there
    PackFn<uint16_t, uint16_t> f16;
    PackFn<float, float> f32;
    PackFn<double, double> f64;
    PackFn<int8_t, int16_t> i8;
    PackFn<uint8_t, int16_t> u8;
};

extern const PackKernel kScalarPack;  // with SSE2 where every CPU has it
#if defined(__x86_64__) || defined(_M_X64)
extern const PackKernel kAvx2Pack;
#endif

// The fastest one that can run here and that the search kernel of this name may use; of any name where it is null.
const PackKernel& pack_kernel(const char* name);

}  // namespace pyhash
