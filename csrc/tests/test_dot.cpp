// Products of int8 rows: every way to multiply, and what is made of products, beside loops over one pair at a time.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "hamming/cpu/cpu.h"
#include "hamming/dot/dot.h"
#include "hamming/kernels/dispatch.h"
#include "test.h"

namespace pyhash {
namespace test {
namespace {

const std::vector<size_t> kDims = {1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 100, 127, 128, 129, 191, 384, 1001};

// Rows in memory that ends where they do.
struct Vectors {
    std::vector<int8_t> values;
    size_t dim;

    Int8Rows rows() const { return {values.data(), values.size() / dim, dim}; }
};

// Of all numbers, or of the extremes alone.
Vectors random_vectors(Random& random, size_t n, size_t dim, bool extreme = false) {
    Vectors vectors{std::vector<int8_t>(n * dim), dim};
    constexpr int8_t kExtremes[] = {-128, -127, 127};
    for (int8_t& value : vectors.values)
        value = extreme ? kExtremes[random.below(3)] : static_cast<int8_t>(static_cast<int>(random.below(256)) - 128);
    return vectors;
}

// Some are equal, some zero.
Vectors repeated_vectors(Random& random, size_t n, size_t dim) {
    Vectors vectors = random_vectors(random, n, dim);
    for (size_t i = 0; i < n; ++i) {
        int8_t* row = vectors.values.data() + i * dim;
        if (random.one_in(10)) std::fill(row, row + dim, int8_t{0});
        if (random.one_in(3)) std::copy_n(vectors.values.data() + random.below(i + 1) * dim, dim, row);
    }
    return vectors;
}

int32_t slow_dot(const int8_t* a, const int8_t* b, size_t dim) {
    int64_t sum = 0;
    for (size_t d = 0; d < dim; ++d) sum += int64_t{a[d]} * b[d];
    return static_cast<int32_t>(sum);
}

void run_on_multipliers(const std::string& name, const std::function<void(const Multiplier&)>& test) {
    for (const Kernel* kernel : compiled_kernels())
        for (const Multiplier* const* way = kernel->multipliers; *way != nullptr; ++way) {
            const std::string id = name + "/" + kernel->name + "/" + (*way)->name;
            if (((kernel->features | (*way)->features) & ~cpu_features()) == 0)
                run(id, [&] { test(**way); });
            else
                skip(id, "this CPU cannot run it");
        }
}

void dots(const Multiplier& multiplier) {
    Random random(1);
    for (const size_t dim : kDims)
        for (const bool extreme : {false, true}) {
            const Vectors vectors = random_vectors(random, full_or(20, 4), dim, extreme);
            const Int8Rows rows = vectors.rows();
            for (size_t i = 0; i < rows.n; ++i)
                for (size_t j = 0; j < rows.n; ++j)
                    CHECK_IN(multiplier.dot(rows.row(i), rows.row(j), dim) == slow_dot(rows.row(i), rows.row(j), dim), "dim",
                             dim, "rows", i, "and", j);
        }
}

void tiles(const Multiplier& multiplier) {
    Random random(2);
    for (const size_t dim : kDims)
        for (const size_t n : {1, 2, 63, 64}) {
            const bool extreme = random.one_in(2);
            const Vectors vectors = random_vectors(random, n, dim, extreme);
            const Vectors asked = random_vectors(random, full_or(15, 7), dim, extreme);
            const Int8Rows rows = vectors.rows(), queries = asked.rows();
            std::vector<uint8_t> tile(kLanes * multiplier.row_bytes(dim), 0x55);
            std::vector<uint8_t> laid(queries.n * multiplier.query_bytes(dim), 0x55);
            multiplier.lay_rows(rows.data, n, dim, tile.data());
            for (size_t q = 0; q < queries.n; ++q)
                multiplier.lay_query(queries.row(q), dim, laid.data() + q * multiplier.query_bytes(dim));
            for (size_t n_queries = 1; n_queries <= queries.n; ++n_queries) {
                std::vector<int32_t> found(n_queries * kLanes, 7);
                multiplier.multiply(tile.data(), laid.data(), n_queries, dim, found.data());
                for (size_t q = 0; q < n_queries; ++q)
                    for (size_t row = 0; row < kLanes; ++row)
                        CHECK_IN(found[q * kLanes + row] == (row < n ? slow_dot(queries.row(q), rows.row(row), dim) : 0), "dim",
                                 dim, "query", q, "row", row);
            }
        }
}

void widest(const Multiplier& multiplier) {
    for (const int8_t a : {int8_t{-128}, int8_t{127}})
        for (const int8_t b : {int8_t{-128}, int8_t{127}}) {
            const std::vector<int8_t> left(kMaxDim, a), right(kMaxDim, b);
            const int32_t expected = static_cast<int32_t>(kMaxDim) * a * b;
            CHECK_IN(multiplier.dot(left.data(), right.data(), kMaxDim) == expected, "a", int{a}, "b", int{b});
            std::vector<uint8_t> tile(kLanes * multiplier.row_bytes(kMaxDim)), laid(multiplier.query_bytes(kMaxDim));
            std::vector<int32_t> found(kLanes);
            multiplier.lay_rows(left.data(), 1, kMaxDim, tile.data());
            multiplier.lay_query(right.data(), kMaxDim, laid.data());
            multiplier.multiply(tile.data(), laid.data(), 1, kMaxDim, found.data());
            CHECK_IN(found[0] == expected, "a", int{a}, "b", int{b}, "got", found[0]);
        }
}

void reaching(const Multiplier& multiplier) {
    Random random(3);
    for (size_t round = 0; round < full_or(200, 20); ++round) {
        int32_t dots[kLanes];
        float scales[kLanes];
        for (size_t i = 0; i < kLanes; ++i) {
            dots[i] = static_cast<int32_t>(random.below(2000)) - 1000;
            scales[i] = random.one_in(5) ? 0 : 1 / static_cast<float>(1 + random.below(100));
        }
        const float limits[] = {-std::numeric_limits<float>::infinity(), 0, static_cast<float>(random.below(2000)) - 1000,
                                static_cast<float>(dots[0]) * scales[0], 1e9f};
        for (const float least : limits) {
            const uint64_t lanes = multiplier.reaching(dots, scales, least);
            for (size_t i = 0; i < kLanes; ++i)
                CHECK_IN((lanes >> i & 1) == (static_cast<float>(dots[i]) * scales[i] >= least), "lane", i, "least", least);
        }
    }
}

double slow_cosine(const int8_t* a, const int8_t* b, size_t dim) {
    const int64_t squares = int64_t{slow_dot(a, a, dim)} * slow_dot(b, b, dim);
    return squares == 0 ? 0 : slow_dot(a, b, dim) / std::sqrt(static_cast<double>(squares));
}

void nearest(const Multiplier& multiplier) {
    Random random(4);
    const struct {
        size_t queries, rows, dim, k;
        unsigned threads;
    } cases[] = {{0, 5, 3, 2, 1},     {3, 0, 3, 2, 1},    {1, 1, 1, 1, 1},     {5, 200, 7, 3, 1},     {7, 129, 64, 200, 2},
                 {8, 64, 20, 64, 1},  {60, 65, 33, 10, 2}, {30, 700, 2, 40, 3}, {1050, 300, 12, 5, 2}, {100, 2000, 96, 1, 4},
                 {22, 60000, 2, 50000, 2}};
    for (const auto& c : cases) {
        if (quick() && c.queries * c.rows > 100000) continue;
        const Vectors vectors = repeated_vectors(random, c.rows, c.dim), asked = repeated_vectors(random, c.queries, c.dim);
        const Int8Rows rows = vectors.rows(), queries = asked.rows();
        std::vector<int32_t> own(c.rows);
        squares(multiplier, rows, c.threads, own.data());
        for (size_t i = 0; i < c.rows; ++i) CHECK(own[i] == slow_dot(rows.row(i), rows.row(i), c.dim));
        std::vector<int64_t> without(c.queries);
        for (int64_t& place : without) place = c.rows == 0 ? -1 : static_cast<int64_t>(random.below(c.rows + 1)) - 1;
        for (const int64_t* left_out : {static_cast<const int64_t*>(nullptr), static_cast<const int64_t*>(without.data())}) {
            std::vector<double> similarities(c.queries * c.k);
            std::vector<int64_t> places(c.queries * c.k);
            similar(multiplier, queries, rows, own.data(), c.k, left_out, c.threads, similarities.data(), places.data());
            for (size_t q = 0; q < c.queries; ++q) {
                std::vector<std::pair<double, int64_t>> all;
                for (size_t i = 0; i < c.rows; ++i)
                    if (left_out == nullptr || left_out[q] != static_cast<int64_t>(i))
                        all.push_back({-slow_cosine(queries.row(q), rows.row(i), c.dim), static_cast<int64_t>(i)});
                std::sort(all.begin(), all.end());
                all.resize(c.k, {std::numeric_limits<double>::infinity(), -1});
                for (size_t i = 0; i < c.k; ++i) {
                    CHECK_IN(places[q * c.k + i] == all[i].second, "queries", c.queries, "rows", c.rows, "query", q, "rank", i);
                    CHECK_IN(similarities[q * c.k + i] == -all[i].first, "queries", c.queries, "query", q, "rank", i);
                }
            }
        }
    }
}

std::vector<int64_t> random_places(Random& random, size_t n, size_t n_rows) {
    std::vector<int64_t> places(n);
    for (int64_t& place : places) place = static_cast<int64_t>(random.below(n_rows + 1)) - 1;
    return places;
}

template <class Call>
bool refuses(Call&& call) {
    try {
        call();
    } catch (const std::invalid_argument&) {
        return true;
    }
    return false;
}

void listed(const Multiplier& multiplier) {
    Random random(5);
    for (const size_t n_places : {0, 1, 5, 130}) {
        const Vectors vectors = random_vectors(random, 50, 37), asked = random_vectors(random, 40, 37);
        const Int8Rows rows = vectors.rows(), queries = asked.rows();
        std::vector<int64_t> places = random_places(random, queries.n * n_places, rows.n);
        std::vector<int32_t> dots(places.size(), 7), own(places.size(), 7);
        products(multiplier, queries, rows, places.data(), n_places, 2, dots.data(), own.data());
        for (size_t i = 0; i < places.size(); ++i) {
            const int8_t* row = places[i] < 0 ? nullptr : rows.row(static_cast<size_t>(places[i]));
            CHECK(dots[i] == (row == nullptr ? 0 : slow_dot(queries.row(i / n_places), row, 37)));
            CHECK(own[i] == (row == nullptr ? 0 : slow_dot(row, row, 37)));
        }
        for (const int64_t wrong : {int64_t{-2}, int64_t{50}}) {
            if (places.empty()) continue;
            places.back() = wrong;
            CHECK(refuses([&] { products(multiplier, queries, rows, places.data(), n_places, 1, dots.data(), own.data()); }));
        }
    }
}

void signs() {
    Random random(6);
    for (const size_t bits : {1, 3, 4, 5, 8, 9, 31, 64, 100}) {
        const size_t n_bytes = (bits + 7) / 8, n_queries = 9, n_places = 30, n = 20;
        std::vector<int16_t> weights(n_queries * bits);
        for (int16_t& weight : weights) weight = static_cast<int16_t>(static_cast<int>(random.below(65535)) - 32767);
        std::vector<uint8_t> codes(n * n_bytes);
        for (uint8_t& byte : codes) byte = static_cast<uint8_t>(random.below(256));
        std::vector<int64_t> places = random_places(random, n_queries * n_places, n);
        std::vector<int32_t> sums(places.size(), 7);
        signed_sums(weights.data(), n_queries, bits, {codes.data(), n, n_bytes}, places.data(), n_places, 2, sums.data());
        for (size_t i = 0; i < places.size(); ++i) {
            int32_t expected = 0;
            for (size_t b = 0; places[i] >= 0 && b < bits; ++b) {
                const int set = codes[static_cast<size_t>(places[i]) * n_bytes + b / 8] >> (7 - b % 8) & 1;
                expected += (2 * set - 1) * weights[i / n_places * bits + b];
            }
            CHECK_IN(sums[i] == expected, "bits", bits, "entry", i);
        }
        places[3] = static_cast<int64_t>(n);
        CHECK(refuses([&] {
            signed_sums(weights.data(), n_queries, bits, {codes.data(), n, n_bytes}, places.data(), n_places, 1, sums.data());
        }));
    }
}

void ways() {
    for (const Kernel* kernel : compiled_kernels()) {
        CHECK(kernel->multipliers[0] != nullptr);
        for (uint32_t features = 0; features < 2 * kDotprod; ++features) {
            if ((kernel->features & ~features) != 0) continue;
            CHECK_IN((multiplier_of(*kernel, features).features & ~features) == 0, kernel->name, features);
        }
        CHECK_IN(&multiplier_of(*kernel, ~0u) == kernel->multipliers[0], kernel->name);
    }
}

}  // namespace

void test_dot() {
    run("dot/ways", ways);
    run_on_multipliers("dot/dots", dots);
    run_on_multipliers("dot/tiles", tiles);
    run_on_multipliers("dot/widest", widest);
    run_on_multipliers("dot/reaching", reaching);
    run_on_multipliers("dot/nearest", nearest);
    run_on_multipliers("dot/listed", listed);
    run("dot/signs", signs);
}

}  // namespace test
}  // namespace pyhash
