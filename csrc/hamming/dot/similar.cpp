#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "hamming/cpu/bits.h"
#include "hamming/dot/dot.h"
#include "hamming/search/plan.h"
#include "hamming/threads/pool.h"

namespace pyhash {
namespace {

constexpr size_t kQueryTile = 1024;  // laid-out queries that stay in a core's cache while rows pass by
constexpr size_t kHeld = 1 << 20;    // rows that a task may hold for its queries: large k, fewer queries
constexpr size_t kFewQueries = 8;    // for which laying out rows does not pay
constexpr size_t kAtOnce = 24;       // queries whose products with a tile of rows are held
constexpr double kMargin = 1e-6;     // more than three roundings of a float can change

constexpr double kNone = -std::numeric_limits<double>::infinity();

struct Found {
    double similarity;
    int64_t place;
};

inline bool better(const Found& a, const Found& b) {
    return a.similarity != b.similarity ? a.similarity > b.similarity : a.place < b.place;
}

// The k best of what one query meets.
class Best {
public:
    Best(size_t k, int32_t square, int64_t without)
        : k_(k), square_(square), length_(std::sqrt(static_cast<double>(square))), without_(without) {}

    // What a row must reach, as the product times 1 / its length in floats: never too much.
    float least() const { return least_; }

    void push(int64_t place, int32_t dot, int32_t square) {
        if (place == without_) return;
        const int64_t squares = static_cast<int64_t>(square_) * square;
        const Found found = {squares == 0 ? 0 : dot / std::sqrt(static_cast<double>(squares)), place};
        if (full_ && !better(found, worst_)) return;
        found_.push_back(found);
        if (found_.size() >= 2 * k_ + 32) shrink();
    }

    std::vector<Found> finish() {
        if (found_.size() > k_) shrink();
        return std::move(found_);
    }

private:
    void shrink() {
        std::nth_element(found_.begin(), found_.begin() + (k_ - 1), found_.end(), better);
        found_.resize(k_);
        worst_ = found_.back();
        full_ = true;
        const double reached = worst_.similarity * length_;
        least_ = static_cast<float>(reached - kMargin * std::abs(reached));
    }

    size_t k_;
    int32_t square_;
    double length_;
    int64_t without_;
    bool full_ = false;
    Found worst_ = {kNone, kNoPlace};
    float least_ = -std::numeric_limits<float>::infinity();
    std::vector<Found> found_;
};

struct Part {
    const Multiplier& multiplier;
    const Int8Rows& rows;
    const int32_t* row_squares;

    // Offers the 64 rows from `first` on, or as many as there are, to a query.
    void offer(const int32_t* dots, const float* scales, size_t first, size_t n, Best& best) const {
        uint64_t lanes = multiplier.reaching(dots, scales, best.least());
        if (n < kLanes) lanes &= (uint64_t{1} << n) - 1;
        for (; lanes != 0; lanes &= lanes - 1) {
            const size_t lane = count_trailing_zeros(lanes);
            best.push(static_cast<int64_t>(first + lane), dots[lane], row_squares[first + lane]);
        }
    }
};

// Rows [begin, end) for all of these queries.
void pass(const Part& part, const Int8Rows& queries, size_t begin, size_t end, std::vector<Best>& best) {
    const Multiplier& m = part.multiplier;
    const size_t dim = queries.dim;
    const bool few = queries.n < kFewQueries;
    const size_t query_bytes = m.query_bytes(dim);
    std::vector<uint8_t> laid(few ? 0 : queries.n * query_bytes);
    std::vector<uint8_t> tile(few ? 0 : kLanes * m.row_bytes(dim));
    std::vector<int32_t> dots(kAtOnce * kLanes);
    float scales[kLanes] = {};
    if (!few)
        for (size_t q = 0; q < queries.n; ++q) m.lay_query(queries.row(q), dim, laid.data() + q * query_bytes);
    for (size_t first = begin; first < end; first += kLanes) {
        const size_t n = std::min(kLanes, end - first);
        for (size_t i = 0; i < n; ++i) {
            const int32_t square = part.row_squares[first + i];
            scales[i] = square == 0 ? 0 : static_cast<float>(1 / std::sqrt(static_cast<double>(square)));
        }
        if (few) {
            for (size_t q = 0; q < queries.n; ++q) {
                for (size_t i = 0; i < n; ++i) dots[i] = m.dot(queries.row(q), part.rows.row(first + i), dim);
                part.offer(dots.data(), scales, first, n, best[q]);
            }
            continue;
        }
        m.lay_rows(part.rows.row(first), n, dim, tile.data());
        for (size_t q = 0; q < queries.n; q += kAtOnce) {
            const size_t n_queries = std::min(kAtOnce, queries.n - q);
            m.multiply(tile.data(), laid.data() + q * query_bytes, n_queries, dim, dots.data());
            for (size_t j = 0; j < n_queries; ++j) part.offer(dots.data() + j * kLanes, scales, first, n, best[q + j]);
        }
    }
}

}  // namespace

void squares(const Multiplier& multiplier, const Int8Rows& rows, unsigned threads, int32_t* out) {
    constexpr size_t kPerTask = 4096;
    run_tasks((rows.n + kPerTask - 1) / kPerTask, useful_threads(threads, rows.n * rows.dim / kLanes), [&](size_t task) {
        for (size_t i = task * kPerTask; i < std::min(rows.n, (task + 1) * kPerTask); ++i)
            out[i] = multiplier.dot(rows.row(i), rows.row(i), rows.dim);
    });
}

void similar(const Multiplier& multiplier, const Int8Rows& queries, const Int8Rows& rows, const int32_t* row_squares, size_t k,
             const int64_t* without, unsigned threads, double* similarities, int64_t* places) {
    std::fill(similarities, similarities + queries.n * k, kNone);
    std::fill(places, places + queries.n * k, kNoPlace);
    const size_t kept = std::min(k, rows.n);
    if (queries.n == 0 || kept == 0) return;
    const Part part = {multiplier, rows, row_squares};
    const size_t n_blocks = (rows.n + kLanes - 1) / kLanes;
    threads = useful_threads(threads, queries.n * n_blocks * queries.dim / 8);
    const size_t query_tile = std::min(kQueryTile, std::max<size_t>(1, kHeld / kept));
    const size_t n_tiles = (queries.n + query_tile - 1) / query_tile;
    // Where tiles of queries are too few to keep all threads busy to the end, each passes over the rows in parts.
    const size_t wanted = threads == 1 ? 1 : (4 * threads + n_tiles - 1) / n_tiles;
    const size_t n_parts = std::min(wanted, n_blocks);
    std::vector<std::vector<Found>> found(queries.n * n_parts);
    run_tasks(n_tiles * n_parts, threads, [&](size_t task) {
        const size_t first = task / n_parts * query_tile;
        const size_t number = task % n_parts;
        const Int8Rows some = {queries.row(first), std::min(query_tile, queries.n - first), queries.dim};
        std::vector<Best> best;
        best.reserve(some.n);
        for (size_t q = 0; q < some.n; ++q)
            best.emplace_back(kept, multiplier.dot(some.row(q), some.row(q), some.dim),
                              without == nullptr ? kNoPlace : without[first + q]);
        pass(part, some, n_blocks * number / n_parts * kLanes, std::min(rows.n, n_blocks * (number + 1) / n_parts * kLanes), best);
        for (size_t q = 0; q < some.n; ++q) found[(first + q) * n_parts + number] = best[q].finish();
    });
    run_tasks(n_tiles, threads, [&](size_t tile) {
        for (size_t q = tile * query_tile; q < std::min(queries.n, (tile + 1) * query_tile); ++q) {
            std::vector<Found> all;
            for (size_t p = 0; p < n_parts; ++p) {
                std::vector<Found>& some = found[q * n_parts + p];
                all.insert(all.end(), some.begin(), some.end());
                std::vector<Found>().swap(some);
            }
            const size_t n = std::min(kept, all.size());
            std::partial_sort(all.begin(), all.begin() + static_cast<ptrdiff_t>(n), all.end(), better);
            for (size_t i = 0; i < n; ++i) {
                similarities[q * k + i] = all[i].similarity;
                places[q * k + i] = all[i].place;
            }
        }
    });
}

}  // namespace pyhash
