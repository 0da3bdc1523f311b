// Candidates that are listed for each query.
#include <algorithm>
#include <stdexcept>
#include <vector>

#include "hamming/cpu/bits.h"
#include "hamming/dot/dot.h"
#include "hamming/search/plan.h"
#include "hamming/threads/pool.h"

namespace pyhash {
namespace {

constexpr size_t kPlacesPerTask = 4096;
constexpr size_t kAhead = 8;  // listed rows lie anywhere: so many before one is read, memory is asked for it
constexpr size_t kCacheLine = 64;

void check(const int64_t* places, size_t n, size_t n_rows) {
    for (size_t i = 0; i < n; ++i)
        if (places[i] < kNoPlace || places[i] >= static_cast<int64_t>(n_rows))
            throw std::invalid_argument("places must be -1 or places of rows");
}

// Calls each(query) for all queries, a few a task; `words` is what one place costs.
template <class Each>
void for_queries(size_t n_queries, size_t n_places, size_t words, unsigned threads, Each&& each) {
    const size_t per_task = std::max<size_t>(1, kPlacesPerTask / n_places);
    run_tasks((n_queries + per_task - 1) / per_task, useful_threads(threads, n_queries * n_places * words), [&](size_t task) {
        for (size_t q = task * per_task; q < std::min(n_queries, (task + 1) * per_task); ++q) each(q);
    });
}

}  // namespace

void products(const Multiplier& multiplier, const Int8Rows& queries, const Int8Rows& rows, const int64_t* places,
              size_t n_places, unsigned threads, int32_t* dots, int32_t* row_squares) {
    check(places, queries.n * n_places, rows.n);
    if (n_places == 0) return;
    for_queries(queries.n, n_places, 1 + queries.dim / 32, threads, [&](size_t q) {
        const size_t end = (q + 1) * n_places;
        const auto row_of = [&](size_t i) {
            return places[i] == kNoPlace ? nullptr : rows.row(static_cast<size_t>(places[i]));
        };
        for (size_t i = q * n_places; i < end; ++i) {
            if (const int8_t* soon = i + kAhead < end ? row_of(i + kAhead) : nullptr)
                for (size_t d = 0; d < rows.dim; d += kCacheLine) prefetch(soon + d);
            const int8_t* row = row_of(i);
            dots[i] = row == nullptr ? 0 : multiplier.dot(queries.row(q), row, queries.dim);
            row_squares[i] = row == nullptr ? 0 : multiplier.dot(row, row, queries.dim);
        }
    });
}

void signed_sums(const int16_t* weights, size_t n_queries, size_t bits, const Codes& codes, const int64_t* places,
                 size_t n_places, unsigned threads, int32_t* sums) {
    check(places, n_queries * n_places, codes.n);
    if (n_places == 0) return;
    constexpr size_t kHalf = 4;  // bits that are looked up together
    constexpr size_t kEntries = 1 << kHalf;
    for_queries(n_queries, n_places, 1 + codes.n_bytes / 4, threads, [&](size_t q) {
        std::vector<int32_t> table(2 * codes.n_bytes * kEntries, 0);  // of each half byte and its value
        for (size_t b = 0; b < bits; ++b) {
            int32_t* entries = table.data() + b / kHalf * kEntries;
            const size_t mask = kEntries >> 1 >> b % kHalf;
            const int32_t weight = weights[q * bits + b];
            for (size_t value = 0; value < kEntries; ++value) entries[value] += (value & mask) != 0 ? weight : -weight;
        }
        for (size_t i = q * n_places; i < (q + 1) * n_places; ++i) {
            int32_t sum = 0;
            if (places[i] != kNoPlace) {
                const uint8_t* code = codes.data + static_cast<size_t>(places[i]) * codes.n_bytes;
                for (size_t b = 0; b < codes.n_bytes; ++b) {
                    const int32_t* entries = table.data() + 2 * b * kEntries;
                    sum += entries[code[b] >> kHalf] + entries[kEntries + (code[b] & (kEntries - 1))];
                }
            }
            sums[i] = sum;
        }
    });
}

}  // namespace pyhash
