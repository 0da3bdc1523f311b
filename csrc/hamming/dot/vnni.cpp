// AVX-512 VNNI: VPDPBUSD adds four products of an unsigned and a signed byte to each 32-bit sum, without saturation. Rows are
// made unsigned by adding 128 to each component; what that adds to a product, 128 times the sum of the query's components, is
// where the sums begin, with a minus. Sums wrap around, so only the end of them must fit.
#include "hamming/dot/multiplier.h"

#if defined(__x86_64__) || defined(_M_X64)

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
// GCC 12 warns of its own _mm512_undefined_epi32 (https://gcc.gnu.org/bugzilla/show_bug.cgi?id=105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>

#include <cstring>

#include "hamming/kernels/target.h"

PYHASH_BEGIN_TARGET(PYHASH_VNNI_TARGET)

namespace pyhash {
namespace vnni {
namespace {

constexpr size_t kGroup = 4;           // components that are multiplied in one 32-bit lane
constexpr size_t kRegisterRows = 16;   // rows a register
constexpr size_t kRegisters = kLanes / kRegisterRows;
constexpr size_t kQueries = 6;         // at once: 24 sums, four registers of rows, one of the query
constexpr int32_t kShift = 128;
constexpr uint32_t kFlip = 0x80808080u;  // turns x into x + 128, four bytes at once

inline size_t groups_of(size_t dim) { return (dim + kGroup - 1) / kGroup; }
size_t row_bytes(size_t dim) { return groups_of(dim) * kGroup; }
size_t query_bytes(size_t dim) { return sizeof(int32_t) + row_bytes(dim); }  // where sums begin, then the components

inline __m512i load(const void* p) { return _mm512_loadu_si512(p); }

inline uint32_t group_at(const int8_t* row, size_t dim, size_t group) {
    const size_t begin = group * kGroup;
    uint32_t bytes = 0;
    std::memcpy(&bytes, row + begin, dim - begin < kGroup ? dim - begin : kGroup);
    return bytes;
}

int32_t dot(const int8_t* a, const int8_t* b, size_t dim) {
    const __m512i flip = _mm512_set1_epi8(static_cast<char>(kShift));
    __m512i shifted_i32x16 = _mm512_setzero_si512();  // of a + 128 with b
    __m512i added_i32x16 = _mm512_setzero_si512();    // of 128 with b
    for (size_t d = 0; d < dim; d += 64) {
        const __mmask64 there = dim - d >= 64 ? ~__mmask64{0} : (__mmask64{1} << (dim - d)) - 1;
        const __m512i left = _mm512_xor_si512(_mm512_maskz_loadu_epi8(there, a + d), flip);
        const __m512i right = _mm512_maskz_loadu_epi8(there, b + d);
        shifted_i32x16 = _mm512_dpbusd_epi32(shifted_i32x16, left, right);
        added_i32x16 = _mm512_dpbusd_epi32(added_i32x16, flip, right);
    }
    return _mm512_reduce_add_epi32(_mm512_sub_epi32(shifted_i32x16, added_i32x16));
}

// tile[(group * 64 + row) * 4]
void lay_rows(const int8_t* rows, size_t n, size_t dim, uint8_t* tile) {
    if (n < kLanes) std::memset(tile, kShift, row_bytes(dim) * kLanes);
    const size_t whole = dim / kGroup;
    for (size_t row = 0; row < n; ++row) {
        const int8_t* from = rows + row * dim;
        for (size_t g = 0; g < groups_of(dim); ++g) {
            uint32_t bytes;
            if (g < whole)
                std::memcpy(&bytes, from + g * kGroup, kGroup);
            else
                bytes = group_at(from, dim, g);
            bytes ^= kFlip;
            std::memcpy(tile + (g * kLanes + row) * kGroup, &bytes, kGroup);
        }
    }
}

void lay_query(const int8_t* query, size_t dim, uint8_t* laid) {
    int32_t sum = 0;
    for (size_t d = 0; d < dim; ++d) sum += query[d];
    const int32_t begin = -kShift * sum;
    std::memcpy(laid, &begin, sizeof begin);
    std::memset(laid + sizeof begin, 0, row_bytes(dim));
    std::memcpy(laid + sizeof begin, query, dim);
}

inline int32_t number(const uint8_t* p) {
    int32_t value;
    std::memcpy(&value, p, sizeof value);
    return value;
}

template <size_t N>
inline void multiply_few(const uint8_t* tile, const uint8_t* queries, size_t dim, int32_t* dots) {
    const size_t stride = query_bytes(dim);
    __m512i sums[N][kRegisters];
    PYHASH_UNROLL
    for (size_t q = 0; q < N; ++q)
        PYHASH_UNROLL
        for (size_t r = 0; r < kRegisters; ++r) sums[q][r] = _mm512_set1_epi32(number(queries + q * stride));
    const uint8_t* components = queries + sizeof(int32_t);
    for (size_t g = 0; g < groups_of(dim); ++g) {
        __m512i rows[kRegisters];
        PYHASH_UNROLL
        for (size_t r = 0; r < kRegisters; ++r) rows[r] = load(tile + g * kLanes * kGroup + r * sizeof(__m512i));
        PYHASH_UNROLL
        for (size_t q = 0; q < N; ++q) {
            const __m512i group_i8x64 = _mm512_set1_epi32(number(components + q * stride + g * kGroup));
            PYHASH_UNROLL
            for (size_t r = 0; r < kRegisters; ++r) sums[q][r] = _mm512_dpbusd_epi32(sums[q][r], rows[r], group_i8x64);
        }
    }
    PYHASH_UNROLL
    for (size_t q = 0; q < N; ++q)
        PYHASH_UNROLL
        for (size_t r = 0; r < kRegisters; ++r) _mm512_storeu_si512(dots + q * kLanes + r * kRegisterRows, sums[q][r]);
}

void multiply(const uint8_t* tile, const uint8_t* queries, size_t n_queries, size_t dim, int32_t* dots) {
    size_t q = 0;
    for (; q + kQueries <= n_queries; q += kQueries)
        multiply_few<kQueries>(tile, queries + q * query_bytes(dim), dim, dots + q * kLanes);
    for (; q < n_queries; ++q) multiply_few<1>(tile, queries + q * query_bytes(dim), dim, dots + q * kLanes);
}

uint64_t reaching(const int32_t* dots, const float* scales, float least) {
    uint64_t lanes = 0;
    for (size_t i = 0; i < kLanes; i += kRegisterRows) {
        const __m512 reached = _mm512_mul_ps(_mm512_cvtepi32_ps(load(dots + i)), _mm512_loadu_ps(scales + i));
        lanes |= static_cast<uint64_t>(_mm512_cmp_ps_mask(reached, _mm512_set1_ps(least), _CMP_GE_OQ)) << i;
    }
    return lanes;
}

}  // namespace
}  // namespace vnni

const Multiplier kVnniMultiplier = {"vnni",         kVnniTarget,     vnni::dot,      vnni::row_bytes, vnni::query_bytes,
                                    vnni::lay_rows, vnni::lay_query, vnni::multiply, vnni::reaching};

}  // namespace pyhash

PYHASH_END_TARGET

#endif
