// Joins by keys, beside the slow reference: every pair once, whatever the keys.
#include <algorithm>
#include <numeric>
#include <vector>

#include "hamming/join/buckets.h"
#include "hamming/join/flat.h"
#include "hamming/join/join.h"
#include "test.h"

namespace pyhash {
namespace test {
namespace {

constexpr double kDearer = 1e9;  // so that keys are used wherever there are any

Store store_of(Random& random, const Rows& rows, bool own_ids, bool some_removed) {
    Store store(random, rows, 8);
    if (own_ids) {
        std::vector<int64_t> ids(rows.size());
        int64_t id = -500;
        for (int64_t& each : ids) each = id += 1 + static_cast<int64_t>(random.below(3));
        store.set_ids(ids);
    }
    if (some_removed) {
        std::vector<bool> dead(rows.size());
        for (size_t i = 0; i < dead.size(); ++i) dead[i] = random.one_in(5);
        store.set_dead(dead);
    }
    return store;
}

void widths_and_radii(const Kernel& kernel) {
    Random random(21);
    size_t by_keys = 0;
    for (const size_t n_words : {1, 2, 3, 5, 9})
        for (const uint32_t radius : {0, 1, 2, 3, 5, 8, 13, 40}) {
            if (quick() && (radius + n_words) % 3 != 0) continue;
            const size_t n = full_or(450, 200) + random.below(100);
            const Rows rows = random.one_in(2) ? clustered_rows(random, n, n_words, 20, 30) : uniform_rows(random, n, n_words);
            const Store store = store_of(random, rows, random.one_in(2), random.one_in(2));
            const Database database{{&store}};
            const unsigned threads = 1 + static_cast<unsigned>(random.below(3));
            by_keys += check_pairs(kernel, database, radius, threads, nullptr, {}, kDearer).n_keys != 0;
            const Store other = store_of(random, clustered_rows(random, n / 2, n_words, 20, 30), false, random.one_in(2));
            const Database second{{&other}};
            check_pairs(kernel, database, radius, threads, &second, {}, kDearer);
            check_pairs(kernel, second, radius, threads, &database, {}, kDearer);
            check_pairs(kernel, database, radius, threads, &second);
        }
    CHECK_IN(by_keys > full_or(25, 5), "by keys", by_keys);
}

// Codes that fall into few buckets, or into one, whatever the key.
void codes_of_all_kinds(const Kernel& kernel) {
    Random random(22);
    const size_t n = full_or(400, 150);
    Rows equal{2, std::vector<uint64_t>(2 * n, 0x123456789abcdefu)};
    Rows sixteen = uniform_rows(random, n, 2);  // live bits
    for (uint64_t& word : sixteen.words) word &= 0x0101010101010101u;
    Rows few = uniform_rows(random, n, 2);  // distinct codes
    for (size_t i = 10; i < n; ++i) std::copy_n(few.row(i % 10), 2, few.row(i));
    Rows zeros = uniform_rows(random, n, 2);  // all zero but a run
    for (size_t i = 40; i < n; ++i) std::fill_n(zeros.row(i), 2, uint64_t{0});
    for (const Rows* rows : {&equal, &sixteen, &few, &zeros}) {
        const Store store(random, *rows, 8);
        const Database database{{&store}};
        for (const uint32_t radius : {0, 2, 4, 9})
            for (const double dearer : {1.0, 1e3, kDearer}) {
                check_pairs(kernel, database, radius, 2, nullptr, {}, dearer);
                check_pairs(kernel, database, radius, 2, &database, {}, dearer);
            }
    }
}

// Levels with weights, one level alone, and a weight of nothing.
void metrics(const Kernel& kernel) {
    Random random(23);
    const Metric by_levels[] = {{{{~uint64_t{0}, 0, 3}, {~uint64_t{0}, 1, 1}}},
                                {{{~uint64_t{0}, 1, 1}}},
                                {{{0xffffu, 0, 2}, {~uint64_t{0xffffu}, 0, 1}, {0xff00ff00u, 2, 5}}},
                                {{{0xffu, 1, 0}, {~uint64_t{0}, 2, 7}}}};
    for (const Metric& metric : by_levels) {
        const Store store = store_of(random, clustered_rows(random, full_or(600, 250), 3, 12, 40), true, true);
        const Store other = store_of(random, clustered_rows(random, 200, 3, 12, 40), false, false);
        const Database database{{&store}};
        const Database second{{&other}};
        for (const uint32_t radius : {0, 3, 10, 30}) {
            check_pairs(kernel, database, radius, 2, nullptr, metric, kDearer);
            check_pairs(kernel, database, radius, 2, &second, metric, kDearer);
            check_pairs(kernel, database, radius, 1, nullptr, metric);
        }
    }
}

// Several segments, their ids mixed.
void segments(const Kernel& kernel) {
    Random random(24);
    for (const bool mixed : {false, true}) {
        std::vector<Store> stores;
        int64_t id = 0;
        for (const size_t n : {300, 1, 150, 64}) {
            stores.push_back(Store(random, clustered_rows(random, n, 1, 9, 25), 8));
            std::vector<int64_t> ids(n);
            for (size_t i = 0; i < n; ++i) ids[i] = mixed ? static_cast<int64_t>(4 * i + stores.size()) : id++;
            stores.back().set_ids(ids);
        }
        std::vector<const Store*> all;
        for (const Store& store : stores) all.push_back(&store);
        const Database database{all};
        for (const uint32_t radius : {0, 3, 6, 20})
            for (const double dearer : {1.0, kDearer}) {
                check_pairs(kernel, database, radius, 3, nullptr, {}, dearer);
                check_pairs(kernel, database, radius, 3, &database, {}, dearer);
            }
    }
}

// So many that keys are chosen without being asked for.
void many(const Kernel& kernel) {
    Random random(25);
    const size_t n = full_or(20000, 9000);
    const Rows rows = clustered_rows(random, n, 1, n / 4, 40);
    const Store store(random, rows, 512);
    const JoinReport report = check_pairs(kernel, Database{{&store}}, 2, 2);
    if (!quick()) CHECK_IN(report.n_keys != 0 && !report.flat, "keys", report.n_keys);
}

// Queries joined with codes as a radius search does it: filtered, removed, by levels, of several segments with mixed ids.
void queries_by_keys(const Kernel& kernel) {
    Random random(27);
    const Metric plain;
    for (const size_t n_words : {1, 2, 4, 9, 20}) {
        const Rows near = clustered_rows(random, full_or(190, 100), n_words, 11, 30);
        const Rows some = clustered_rows(random, 5, n_words, 2, 30);
        const Rows few = clustered_rows(random, 130, n_words, 4, 25);
        const Store first = store_of(random, near, false, false);
        const Store second = store_of(random, some, true, true);
        Store third = store_of(random, few, false, true);
        std::vector<int64_t> ids(few.size());
        for (size_t i = 0; i < ids.size(); ++i) ids[i] = 950 + 3 * static_cast<int64_t>(i);  // between those of the first
        third.set_ids(ids);
        Rows queries = clustered_rows(random, 150, n_words, 11, 12);  // fewer than codes: these are looked up
        for (size_t j = 0; j < queries.size(); ++j)  // near the codes, some of them equal
            if (!random.one_in(4)) std::copy_n(near.row(random.below(near.size())), n_words, queries.row(j));
        for (size_t j = 0; j < queries.size(); j += 3) flip_bits(random, queries.row(j), n_words, random.below(7));
        std::vector<std::vector<bool>> masks;
        const std::vector<const Store*> stores{&first, &second, &third};
        for (const Store* store : stores) {
            std::vector<bool> mask(store->rows.size());
            for (size_t i = 0; i < mask.size(); ++i) mask[i] = !random.one_in(3);
            masks.push_back(mask);
        }
        const Metric levels{{{~uint64_t{0}, 0, 3}, {0xffffffffu, static_cast<uint32_t>(n_words - 1), 2}}};
        for (const bool filtered : {false, true}) {
            const Database database(stores, filtered ? masks : std::vector<std::vector<bool>>());
            for (const Metric* metric : {&plain, &levels}) {
                const Reference reference(kernel, database, queries, *metric);
                for (const uint32_t radius : {0, 1, 3, 6, 11, 70})
                    for (const double dearer : {300.0, kDearer})
                        reference.check_within(radius, 1 + static_cast<unsigned>(random.below(3)), dearer);
            }
            // Fewer queries than codes are sorted, more are looked up.
            Rows more = clustered_rows(random, full_or(400, 300), n_words, 3, 12);
            for (size_t j = 0; j < more.size(); j += 2) std::copy_n(few.row(j % few.size()), n_words, more.row(j));
            Reference(kernel, database, more, plain).check_within(4, 2, kDearer);
        }
    }
}

// A flat pass behind some keys leaves out the pairs that met in one.
void flat_behind_keys(const Kernel& kernel) {
    Random random(29);
    const Store a = store_of(random, clustered_rows(random, 200, 2, 3, 20), true, true);
    const Store b = store_of(random, clustered_rows(random, 150, 2, 3, 20), true, false);
    const Database left{{&a}};
    const Database right{{&b}};
    const Key keys[] = {{{0, 5, 70, 71}, 0}, {{1, 2, 3, 90, 100, 127}, 1}};
    EarlierKeys earlier;
    for (const Key& key : keys) earlier.add(key, 2);
    const auto met = [&](const uint64_t* x, const uint64_t* y) {
        for (const Key& key : keys) {
            unsigned differing = 0;
            for (const uint32_t bit : key.bits) differing += (x[bit / 64] ^ y[bit / 64]) >> bit % 64 & 1;
            if (differing <= key.reach) return true;
        }
        return false;
    };
    constexpr uint32_t kRadius = 64;
    for (const bool one_set : {false, true}) {
        const Store& other = one_set ? a : b;
        size_t expected = 0;
        size_t left_out = 0;
        for (size_t i = 0; i < a.rows.size(); ++i)
            for (size_t j = one_set ? i + 1 : 0; j < other.rows.size(); ++j) {
                const uint64_t* x = a.rows.row(i);
                const uint64_t* y = other.rows.row(j);
                if (a.dead[i] || other.dead[j] || slow_distance(x, y, 2, {}) > kRadius) continue;
                ++(met(x, y) ? left_out : expected);
            }
        const Ranks ranks(left.target);
        const Ranks others(right.target);
        FoundPairs found(ranks.size());
        if (one_set)
            flat_join(kernel, left.target, ranks, {}, kRadius, 2, earlier, found);
        else
            flat_join(kernel, left.target, ranks, right.target, others, {}, kRadius, 2, earlier, found);
        CHECK_IN(found.size() == expected && expected != 0 && left_out != 0, "got", found.size(), "not", expected);
    }
}

// Rows of another kind than the codes they are looked up among: what meets is counted on both.
void unlike_sets(const Kernel& kernel) {
    Random random(28);
    const Rows spread = uniform_rows(random, full_or(700, 300), 2);
    Rows heavy = uniform_rows(random, full_or(600, 200), 2);
    for (size_t i = 0; i < heavy.size(); i += 4) std::copy_n(spread.row(0), 2, heavy.row(i));
    Rows equal{2, {}};
    for (size_t i = 0; i < 500; ++i) equal.words.insert(equal.words.end(), spread.row(0), spread.row(0) + 2);
    const Rows* all[] = {&spread, &heavy, &equal};
    for (const Rows* left : all)
        for (const Rows* right : all) {
            const Store a(random, *left, 8);
            const Store b(random, *right, 8);
            const Database codes{{&a}};
            const Database others{{&b}};
            for (const double dearer : {1.0, 30.0, 300.0, kDearer}) check_pairs(kernel, codes, 3, 2, &others, {}, dearer);
        }
}

void sorting() {
    Random random(26);
    for (const size_t n : {1, 63, 64, 65, 5000, 40000}) {
        const Store store = store_of(random, uniform_rows(random, n, 2), false, true);
        const Database database{{&store}};
        const Ranks ranks(database.target);
        for (const unsigned bits : {1u, 7u, 17u}) {
            Key key{{}, 0};
            for (unsigned b = 0; b < bits; ++b) key.bits.push_back(7 * b + 3);
            Buckets buckets;
            sort_by_key(database.target, ranks, key, 2, buckets);
            const KeyReader value_of(key, 2);
            const size_t live = n - static_cast<size_t>(std::count(store.dead.begin(), store.dead.end(), true));
            CHECK(buckets.n == live && buckets.starts.back() == live && buckets.starts.front() == 0);
            std::vector<bool> seen(n, false);
            for (size_t v = 0; v < buckets.n_buckets(); ++v)
                for (size_t c = buckets.starts[v]; c < buckets.starts[v + 1]; ++c) {
                    const uint32_t rank = buckets.ranks[c];
                    CHECK_IN(!seen[rank] && !store.dead[rank], "rank", rank);
                    seen[rank] = true;
                    CHECK(value_of(buckets.words.get() + c, buckets.stride) == v);
                    for (size_t w = 0; w < 2; ++w) CHECK(buckets.words[w * buckets.stride + c] == store.rows.row(rank)[w]);
                }
        }
    }
}

}  // namespace

void test_join() {
    run("join/sorting", sorting);
    run_on_kernels("join/widths and radii", widths_and_radii);
    run_on_kernels("join/codes of all kinds", codes_of_all_kinds);
    run_on_kernels("join/metrics", metrics);
    run_on_kernels("join/segments", segments);
    run_on_kernels("join/queries by keys", queries_by_keys);
    run_on_kernels("join/flat behind keys", flat_behind_keys);
    run_on_kernels("join/unlike sets", unlike_sets);
    run_on_kernels("join/many", many);
}

}  // namespace test
}  // namespace pyhash
