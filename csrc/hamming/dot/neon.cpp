// NEON: SMULL multiplies bytes into 16 bits, two components of four rows a register, and SADALP adds pairs in 32 bits.
#include "hamming/dot/multiplier.h"

#if defined(__aarch64__) || defined(_M_ARM64)

#include <arm_neon.h>

#include <cstring>

#include "hamming/kernels/target.h"

namespace pyhash {
namespace neon {
namespace {

constexpr size_t kPair = 2;           // components that are multiplied together
constexpr size_t kRegisterRows = 8;   // rows a register of bytes
constexpr size_t kPartRows = 32;
constexpr size_t kRegisters = kPartRows / kRegisterRows;
constexpr size_t kQueries = 2;  // at once: sixteen sums

inline size_t pairs_of(size_t dim) { return (dim + 1) / kPair; }
size_t bytes(size_t dim) { return pairs_of(dim) * kPair; }

int32_t dot(const int8_t* a, const int8_t* b, size_t dim) {
    int32x4_t sums = vdupq_n_s32(0);
    size_t d = 0;
    for (; d + 16 <= dim; d += 16) {
        const int8x16_t left = vld1q_s8(a + d), right = vld1q_s8(b + d);
        sums = vpadalq_s16(sums, vmull_s8(vget_low_s8(left), vget_low_s8(right)));
        sums = vpadalq_s16(sums, vmull_high_s8(left, right));
    }
    int32_t sum = vaddvq_s32(sums);
    for (; d < dim; ++d) sum += int32_t{a[d]} * b[d];
    return sum;
}

// tile[(pair * 64 + row) * 2]
void lay_rows(const int8_t* rows, size_t n, size_t dim, uint8_t* tile) {
    std::memset(tile, 0, bytes(dim) * kLanes);
    for (size_t row = 0; row < n; ++row)
        for (size_t d = 0; d < dim; ++d)
            tile[(d / kPair * kLanes + row) * kPair + d % kPair] = static_cast<uint8_t>(rows[row * dim + d]);
}

void lay_query(const int8_t* query, size_t dim, uint8_t* laid) {
    std::memset(laid, 0, bytes(dim));
    std::memcpy(laid, query, dim);
}

template <size_t N>
inline void multiply_few(const uint8_t* part, const uint8_t* queries, size_t dim, int32_t* dots) {
    int32x4_t sums[N][2 * kRegisters];
    PYHASH_UNROLL
    for (size_t q = 0; q < N; ++q)
        PYHASH_UNROLL
        for (size_t r = 0; r < 2 * kRegisters; ++r) sums[q][r] = vdupq_n_s32(0);
    for (size_t p = 0; p < pairs_of(dim); ++p) {
        int8x16_t pairs[N];
        PYHASH_UNROLL
        for (size_t q = 0; q < N; ++q) {
            int16_t pair;
            std::memcpy(&pair, queries + q * bytes(dim) + p * kPair, kPair);
            pairs[q] = vreinterpretq_s8_s16(vdupq_n_s16(pair));
        }
        PYHASH_UNROLL
        for (size_t r = 0; r < kRegisters; ++r) {
            const int8x16_t rows = vreinterpretq_s8_u8(vld1q_u8(part + (p * kLanes + r * kRegisterRows) * kPair));
            PYHASH_UNROLL
            for (size_t q = 0; q < N; ++q) {
                sums[q][2 * r] = vpadalq_s16(sums[q][2 * r], vmull_s8(vget_low_s8(rows), vget_low_s8(pairs[q])));
                sums[q][2 * r + 1] = vpadalq_s16(sums[q][2 * r + 1], vmull_high_s8(rows, pairs[q]));
            }
        }
    }
    PYHASH_UNROLL
    for (size_t q = 0; q < N; ++q)
        PYHASH_UNROLL
        for (size_t r = 0; r < 2 * kRegisters; ++r) vst1q_s32(dots + q * kLanes + 4 * r, sums[q][r]);
}

void multiply(const uint8_t* tile, const uint8_t* queries, size_t n_queries, size_t dim, int32_t* dots) {
    size_t q = 0;
    for (; q + kQueries <= n_queries; q += kQueries)
        for (size_t row = 0; row < kLanes; row += kPartRows)
            multiply_few<kQueries>(tile + row * kPair, queries + q * bytes(dim), dim, dots + q * kLanes + row);
    for (; q < n_queries; ++q)
        for (size_t row = 0; row < kLanes; row += kPartRows)
            multiply_few<1>(tile + row * kPair, queries + q * bytes(dim), dim, dots + q * kLanes + row);
}

uint64_t reaching(const int32_t* dots, const float* scales, float least) {
    uint32x4_t any = vdupq_n_u32(0);
    uint32_t marks[kLanes];
    for (size_t i = 0; i < kLanes; i += 4) {
        const float32x4_t reached = vmulq_f32(vcvtq_f32_s32(vld1q_s32(dots + i)), vld1q_f32(scales + i));
        const uint32x4_t here = vcgeq_f32(reached, vdupq_n_f32(least));
        any = vorrq_u32(any, here);
        vst1q_u32(marks + i, here);
    }
    uint64_t lanes = 0;
    if (vmaxvq_u32(any) != 0)
        for (size_t i = 0; i < kLanes; ++i) lanes |= static_cast<uint64_t>(marks[i] & 1) << i;
    return lanes;
}

}  // namespace
}  // namespace neon

const Multiplier kNeonMultiplier = {"neon",         kNeon,           neon::dot,      neon::bytes,   neon::bytes,
                                    neon::lay_rows, neon::lay_query, neon::multiply, neon::reaching};

}  // namespace pyhash

#if defined(PYHASH_DOTPROD)
PYHASH_BEGIN_TARGET(PYHASH_DOTPROD_TARGET)

namespace pyhash {
// SDOT adds four products of bytes to each 32-bit sum.
namespace dotprod {
namespace {

constexpr size_t kGroup = 4;  // components that are multiplied in one 32-bit lane, and rows a register
constexpr size_t kPartRows = 16;
constexpr size_t kRegisters = kPartRows / kGroup;
constexpr size_t kQueries = 4;  // at once: sixteen sums

inline size_t groups_of(size_t dim) { return (dim + kGroup - 1) / kGroup; }
size_t bytes(size_t dim) { return groups_of(dim) * kGroup; }

int32_t dot(const int8_t* a, const int8_t* b, size_t dim) {
    int32x4_t sums = vdupq_n_s32(0);
    size_t d = 0;
    for (; d + 16 <= dim; d += 16) sums = vdotq_s32(sums, vld1q_s8(a + d), vld1q_s8(b + d));
    int32_t sum = vaddvq_s32(sums);
    for (; d < dim; ++d) sum += int32_t{a[d]} * b[d];
    return sum;
}

// tile[(group * 64 + row) * 4]
void lay_rows(const int8_t* rows, size_t n, size_t dim, uint8_t* tile) {
    std::memset(tile, 0, bytes(dim) * kLanes);
    for (size_t row = 0; row < n; ++row)
        for (size_t d = 0; d < dim; ++d)
            tile[(d / kGroup * kLanes + row) * kGroup + d % kGroup] = static_cast<uint8_t>(rows[row * dim + d]);
}

void lay_query(const int8_t* query, size_t dim, uint8_t* laid) {
    std::memset(laid, 0, bytes(dim));
    std::memcpy(laid, query, dim);
}

template <size_t N>
inline void multiply_few(const uint8_t* part, const uint8_t* queries, size_t dim, int32_t* dots) {
    int32x4_t sums[N][kRegisters];
    PYHASH_UNROLL
    for (size_t q = 0; q < N; ++q)
        PYHASH_UNROLL
        for (size_t r = 0; r < kRegisters; ++r) sums[q][r] = vdupq_n_s32(0);
    for (size_t g = 0; g < groups_of(dim); ++g) {
        int8x16_t rows[kRegisters];
        PYHASH_UNROLL
        for (size_t r = 0; r < kRegisters; ++r)
            rows[r] = vreinterpretq_s8_u8(vld1q_u8(part + (g * kLanes + r * kGroup) * kGroup));
        PYHASH_UNROLL
        for (size_t q = 0; q < N; ++q) {
            int32_t group;
            std::memcpy(&group, queries + q * bytes(dim) + g * kGroup, kGroup);
            const int8x16_t same = vreinterpretq_s8_s32(vdupq_n_s32(group));
            PYHASH_UNROLL
            for (size_t r = 0; r < kRegisters; ++r) sums[q][r] = vdotq_s32(sums[q][r], rows[r], same);
        }
    }
    PYHASH_UNROLL
    for (size_t q = 0; q < N; ++q)
        PYHASH_UNROLL
        for (size_t r = 0; r < kRegisters; ++r) vst1q_s32(dots + q * kLanes + kGroup * r, sums[q][r]);
}

void multiply(const uint8_t* tile, const uint8_t* queries, size_t n_queries, size_t dim, int32_t* dots) {
    size_t q = 0;
    for (; q + kQueries <= n_queries; q += kQueries)
        for (size_t row = 0; row < kLanes; row += kPartRows)
            multiply_few<kQueries>(tile + row * kGroup, queries + q * bytes(dim), dim, dots + q * kLanes + row);
    for (; q < n_queries; ++q)
        for (size_t row = 0; row < kLanes; row += kPartRows)
            multiply_few<1>(tile + row * kGroup, queries + q * bytes(dim), dim, dots + q * kLanes + row);
}

}  // namespace
}  // namespace dotprod

const Multiplier kDotprodMultiplier = {"dotprod",         kDotprodTarget,     dotprod::dot,
                                       dotprod::bytes,    dotprod::bytes,     dotprod::lay_rows,
                                       dotprod::lay_query, dotprod::multiply, neon::reaching};

}  // namespace pyhash

PYHASH_END_TARGET
#endif

#endif
