// The way that runs anywhere: plain loops, which compilers turn into the base instruction set's SIMD.
#include <algorithm>
#include <cstring>

#include "hamming/dot/multiplier.h"

namespace pyhash {
namespace scalar {
namespace {

int32_t dot(const int8_t* a, const int8_t* b, size_t dim) {
    int32_t sum = 0;
    for (size_t d = 0; d < dim; ++d) sum += int16_t{a[d]} * int16_t{b[d]};
    return sum;
}

size_t bytes(size_t dim) { return dim; }

// tile[d * 64 + row]
void lay_rows(const int8_t* rows, size_t n, size_t dim, uint8_t* tile) {
    std::memset(tile, 0, dim * kLanes);
    for (size_t row = 0; row < n; ++row)
        for (size_t d = 0; d < dim; ++d) tile[d * kLanes + row] = static_cast<uint8_t>(rows[row * dim + d]);
}

void lay_query(const int8_t* query, size_t dim, uint8_t* laid) { std::memcpy(laid, query, dim); }

void multiply(const uint8_t* tile, const uint8_t* queries, size_t n_queries, size_t dim, int32_t* dots) {
    for (size_t q = 0; q < n_queries; ++q) {
        int32_t sums[kLanes] = {};
        for (size_t d = 0; d < dim; ++d) {
            const int16_t x = static_cast<int8_t>(queries[q * dim + d]);
            const uint8_t* row = tile + d * kLanes;
            for (size_t i = 0; i < kLanes; ++i) sums[i] += x * int16_t{static_cast<int8_t>(row[i])};
        }
        std::copy_n(sums, kLanes, dots + q * kLanes);
    }
}

uint64_t reaching(const int32_t* dots, const float* scales, float least) {
    uint64_t lanes = 0;
    for (size_t i = 0; i < kLanes; ++i)
        lanes |= static_cast<uint64_t>(static_cast<float>(dots[i]) * scales[i] >= least) << i;
    return lanes;
}

}  // namespace
}  // namespace scalar

const Multiplier kScalarMultiplier = {"scalar",         0,                 scalar::dot,      scalar::bytes,   scalar::bytes,
                                      scalar::lay_rows, scalar::lay_query, scalar::multiply, scalar::reaching};

}  // namespace pyhash
