// Rankings by int8 embeddings, and by floats against codes: everything in whole numbers, so that all kernels agree.
#pragma once

#include <cstddef>
#include <cstdint>

#include "hamming/dot/multiplier.h"

namespace pyhash {

struct Int8Rows {
    const int8_t* data;  // (n, dim)
    size_t n;
    size_t dim;

    const int8_t* row(size_t i) const { return data + i * dim; }
};

constexpr int64_t kNoPlace = -1;

// The product of each row with itself.
void squares(const Multiplier& multiplier, const Int8Rows& rows, unsigned threads, int32_t* out);

// The k rows of largest cosine for each query, in the order (cosine descending, place ascending), padded with minus infinity
// and -1. The cosine is dot / sqrt(square * square) in double precision, 0 where one of them is zero. `row_squares` are those
// of the rows; `without` is null or a place a query to leave out.
void similar(const Multiplier& multiplier, const Int8Rows& queries, const Int8Rows& rows, const int32_t* row_squares, size_t k,
             const int64_t* without, unsigned threads, double* similarities, int64_t* places);

// The product of each query with the rows listed for it, `(n, n_places)`, and of those rows with themselves; 0 for place -1.
void products(const Multiplier& multiplier, const Int8Rows& queries, const Int8Rows& rows, const int64_t* places,
              size_t n_places, unsigned threads, int32_t* dots, int32_t* row_squares);

// Codes `(n, n_bytes)`, bit 0 the highest of byte 0.
struct Codes {
    const uint8_t* data;
    size_t n;
    size_t n_bytes;
};

// The sum of each query's weights, `(n_queries, bits)` with bits <= 8 n_bytes, with a minus where the code listed for it has
// a 0; 0 for place -1. At most 65,536 weights sum to less than 2^31.
void signed_sums(const int16_t* weights, size_t n_queries, size_t bits, const Codes& codes, const int64_t* places,
                 size_t n_places, unsigned threads, int32_t* sums);

}  // namespace pyhash
