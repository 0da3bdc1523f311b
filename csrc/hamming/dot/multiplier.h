// The contract between rankings by int8 embeddings and who multiplies: one way to do it is one value of `Multiplier`.
//
// A product is a sum of at most 65,536 products of two int8: it fits in 32 bits, and every way finds the same number. To pass
// many queries over many rows, 64 rows are laid out as a tile, so that a register holds the same components of several rows
// and nothing is ever summed across a register; queries are laid out to match.
//
// Adding a way: (1) name its features and target list in kernels/target.h, (2) write it in a file here, everything inside a
// target region, (3) declare it below and put it in the list of its kernel, best first. The C++ tests then cover it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hamming/kernels/kernel.h"
#include "hamming/kernels/target.h"

namespace pyhash {

constexpr size_t kMaxDim = 65536;  // 65,536 * 128 * 128 = 2^30

struct Multiplier {
    const char* name;
    uint32_t features;  // all of these must be there
    // The product of two rows.
    int32_t (*dot)(const int8_t* a, const int8_t* b, size_t dim);
    // Bytes of a row in a tile, and of a query.
    size_t (*row_bytes)(size_t dim);
    size_t (*query_bytes)(size_t dim);
    // Lays out n <= 64 rows; those that are missing are zeros.
    void (*lay_rows)(const int8_t* rows, size_t n, size_t dim, uint8_t* tile);
    void (*lay_query)(const int8_t* query, size_t dim, uint8_t* laid);
    // dots[query * 64 + row]
    void (*multiply)(const uint8_t* tile, const uint8_t* queries, size_t n_queries, size_t dim, int32_t* dots);
    // Bit l: dots[l] * scales[l] >= least, as floats.
    uint64_t (*reaching)(const int32_t* dots, const float* scales, float least);
};

// The best of a kernel's ways that these features allow.
const Multiplier& multiplier_of(const Kernel& kernel, uint32_t cpu_features);

// The ways of each kernel.
extern const Multiplier* const kScalarMultipliers[];
extern const Multiplier* const kAvx2Multipliers[];
extern const Multiplier* const kAvx512Multipliers[];
extern const Multiplier* const kNeonMultipliers[];

extern const Multiplier kScalarMultiplier;
#if defined(__x86_64__) || defined(_M_X64)
extern const Multiplier kAvx2Multiplier;
extern const Multiplier kVnniMultiplier;
#endif
#if defined(__aarch64__) || defined(_M_ARM64)
extern const Multiplier kNeonMultiplier;
#if defined(PYHASH_DOTPROD)
extern const Multiplier kDotprodMultiplier;
#endif
#endif

}  // namespace pyhash
