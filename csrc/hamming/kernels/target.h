// Regions compiled for one instruction set, without compiler flags on files: a flag would also widen every inline
// function of the standard library that the file uses, and the linker could keep that copy for code that runs anywhere.
//
// Use, after every #include:   PYHASH_BEGIN_TARGET(PYHASH_AVX2_TARGET) namespace ... PYHASH_END_TARGET
// The compiler's list and the features checked at run time stand side by side here, so that they cannot drift apart.
#pragma once

#include "hamming/cpu/cpu.h"

#define PYHASH_AVX2_TARGET "avx2,popcnt"
#define PYHASH_AVX512_TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,avx2,popcnt"
#define PYHASH_VNNI_TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,popcnt"

// Clang before 17 has SDOT only where the whole program may use it (https://reviews.llvm.org/D132034).
#if defined(__ARM_FEATURE_DOTPROD) || (defined(__aarch64__) && defined(__GNUC__) && !defined(__clang__))
#define PYHASH_DOTPROD 1
#if defined(__clang__)
#define PYHASH_DOTPROD_TARGET "dotprod"
#else
#define PYHASH_DOTPROD_TARGET "arch=armv8.2-a+dotprod"
#endif
#endif

namespace pyhash {
constexpr uint32_t kAvx2Target = kAvx2 | kPopcnt;
constexpr uint32_t kAvx512Target = kAvx512F | kAvx512Bw | kAvx512Dq | kAvx512Vl | kAvx512Vpopcntdq | kAvx2 | kPopcnt;
constexpr uint32_t kVnniTarget = kAvx512F | kAvx512Bw | kAvx512Dq | kAvx512Vl | kAvx512Vnni | kAvx2 | kPopcnt;
constexpr uint32_t kDotprodTarget = kNeon | kDotprod;
}  // namespace pyhash

#define PYHASH_PRAGMA(text) _Pragma(#text)

#if defined(__clang__)
#define PYHASH_BEGIN_TARGET(list) \
    PYHASH_PRAGMA(clang attribute push(__attribute__((target(list))), apply_to = function))
#define PYHASH_END_TARGET _Pragma("clang attribute pop")
#elif defined(__GNUC__)
#define PYHASH_BEGIN_TARGET(list) _Pragma("GCC push_options") PYHASH_PRAGMA(GCC target(list))
#define PYHASH_END_TARGET _Pragma("GCC pop_options")
#else  // MSVC accepts every intrinsic everywhere
#define PYHASH_BEGIN_TARGET(list)
#define PYHASH_END_TARGET
#endif

// Before a loop of at most 8 rounds over an array of registers: GCC keeps the array in memory unless it is unrolled early.
#if defined(__clang__)
#define PYHASH_UNROLL _Pragma("unroll")
#elif defined(__GNUC__)
#define PYHASH_UNROLL _Pragma("GCC unroll 8")
#else
#define PYHASH_UNROLL
#endif

#if defined(__GNUC__) || defined(__clang__)
#define PYHASH_VECTOR_EXTENSIONS 1
#define PYHASH_ALWAYS_INLINE inline __attribute__((always_inline))
#define PYHASH_SLICER(isa) &isa::kSlicer
#else
#define PYHASH_SLICER(isa) nullptr
#endif
