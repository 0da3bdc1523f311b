// The ring structure: what it is made of, and that its answers are those of the reference whatever the data.
#include <algorithm>
#include <cmath>
#include <vector>

#include "hamming/cpu/cpu.h"
#include "hamming/kernels/dispatch.h"
#include "hamming/ring/ring.h"
#include "hamming/search/search.h"
#include "ring_store.h"
#include "test.h"

namespace pyhash {
namespace test {
namespace {

struct Data {
    const char* name;
    Rows rows;
};

std::vector<Data> data_sets(Random& random, size_t n, size_t n_words) {
    std::vector<Data> sets;
    sets.push_back({"clustered", clustered_rows(random, n, n_words, 1 + n / 60, 25)});
    sets.push_back({"uniform", uniform_rows(random, n, n_words)});
    sets.push_back({"one cluster", clustered_rows(random, n, n_words, 1, 10)});
    const Rows one = uniform_rows(random, 1, n_words);
    Rows equal{n_words, {}};
    Rows shell{n_words, {}};
    for (size_t i = 0; i < n; ++i)
        for (Rows* rows : {&equal, &shell}) rows->words.insert(rows->words.end(), one.words.begin(), one.words.end());
    for (size_t i = 0; i < n; ++i) flip_bits(random, shell.row(i), n_words, 12);
    sets.push_back({"all equal", equal});
    sets.push_back({"all at one distance", shell});
    Rows mixed = equal;  // heavy duplicates beside single codes
    for (size_t i = 0; i < n; i += 2) flip_bits(random, mixed.row(i), n_words, random.below(64 * n_words + 1));
    sets.push_back({"half equal", mixed});
    return sets;
}

// Queries among the codes, near them, and anywhere.
Rows queries_for(Random& random, const Rows& rows, size_t n) {
    Rows queries = uniform_rows(random, n, rows.n_words);
    for (size_t j = 0; j < n; ++j) {
        if (rows.size() == 0 || j % 4 == 3) continue;
        std::copy_n(rows.row(random.below(rows.size())), rows.n_words, queries.row(j));
        flip_bits(random, queries.row(j), rows.n_words, 3 * (j % 4));
    }
    return queries;
}

void parts() {
    Random random(21);
    const Metric plain;
    for (const size_t n_words : {size_t{1}, size_t{2}, size_t{5}, kMaxRingWords})
        for (const size_t n : {1, 2, 63, 64, 65, 128, 1000})
            for (const Data& data : data_sets(random, n, n_words))
                for (const size_t n_clusters : {1, 2, 16, 100, 2000}) {
                    if ((quick() || n_words > 5) && !random.one_in(8)) continue;
                    const Store flat(random, data.rows, 3);
                    const RingParts p = build_ring(best_kernel(), flat.segment, n_clusters, 1 + static_cast<unsigned>(random.below(3)));
                    const size_t found = p.least.size();
                    CHECK_IN(found >= 1 && found <= std::min(n_clusters, n), data.name, n, "clusters", found);
                    CHECK(p.centres.size() == (found + kLanes - 1) / kLanes * kLanes * n_words && p.first.size() == found + 1 && p.first[0] == 0);
                    CHECK(p.first.back() == p.starts.size() && p.starts.front() == 0 && p.starts.back() == n);
                    CHECK(std::is_sorted(p.starts.begin(), p.starts.end()));
                    std::vector<uint32_t> ranks = p.order;
                    std::sort(ranks.begin(), ranks.end());
                    CHECK(ranks.size() == n);
                    for (size_t i = 0; i < n; ++i) CHECK(ranks[i] == i);
                    Segment centres;
                    centres.chunks = {p.centres.data()};
                    centres.blocks_per_chunk = p.centres.size() / n_words / kLanes;
                    centres.n_codes = found;
                    centres.n_words = n_words;
                    std::vector<uint64_t> centre(n_words);
                    for (size_t c = 0; c < found; ++c) {
                        centres.row(c, centre.data());
                        CHECK(p.first[c] + 2 <= p.first[c + 1]);
                        for (uint32_t ring = p.first[c]; ring + 1 < p.first[c + 1]; ++ring)
                            for (uint32_t slot = p.starts[ring]; slot < p.starts[ring + 1]; ++slot) {
                                const uint64_t* row = data.rows.row(p.order[slot]);
                                const uint64_t r = slow_distance(row, centre.data(), n_words, plain);
                                CHECK_IN(r == p.least[c] + (ring - p.first[c]), data.name, "cluster", c, "slot", slot);
                                // Ranks ascend in a ring, so that memory is read forwards when ids are looked up.
                                CHECK(slot == p.starts[ring] || p.order[slot - 1] < p.order[slot]);
                            }
                        // Neither the first nor the last ring is empty.
                        CHECK(p.starts[p.first[c]] < p.starts[p.first[c] + 1]);
                        CHECK(p.starts[p.first[c + 1] - 2] < p.starts[p.first[c + 1] - 1]);
                    }
                }
}

// The same clusters whatever the kernel and however many threads.
void repeatable() {
    Random random(22);
    const Store store(random, clustered_rows(random, 3000, 2, 40, 15), 8);
    const RingParts like = build_ring(best_kernel(), store.segment, 50, 1);
    for (const Kernel* kernel : runnable_kernels(cpu_features())) {
        for (const unsigned threads : {1u, 2u, 4u}) {
            const RingParts p = build_ring(*kernel, store.segment, 50, threads);
            CHECK_IN(p.order == like.order && p.centres == like.centres && p.least == like.least && p.first == like.first &&
                         p.starts == like.starts,
                     kernel->name, threads);
        }
    }
}

void check_searches(const Kernel& kernel, const Database& database, const Rows& queries, size_t k, unsigned threads) {
    const Metric plain;
    const Reference reference(kernel, database, queries, plain);
    const uint32_t n_bits = static_cast<uint32_t>(64 * queries.n_words);
    for (const size_t wanted : {size_t{1}, k, database.n_codes(), database.n_codes() + 2})
        if (wanted > 0) reference.check_topk(wanted, threads);
    for (const uint32_t radius : {0u, 3u, 12u, n_bits / 2, n_bits - 1, n_bits, ~0u})
        reference.check_within(radius, threads);
    if (database.allowed.empty() && database.n_codes() < 1000) check_pairs(kernel, database, 4, threads);
    // A ring says nothing of weights or levels: those are answered flat.
    const Metric level{{{0xffff, 0, 3}, {~uint64_t{0}, static_cast<uint32_t>(queries.n_words - 1), 1}}};
    const Reference of_level(kernel, database, queries, level);
    of_level.check_topk(k, threads);
    of_level.check_within(20, threads);
    if (!database.allowed.empty()) return;
    Random random(k + database.n_codes());
    reference.check_rerank(random, 30, k, threads);
    of_level.check_rerank(random, 200, k, threads);
}

void as_reference(const Kernel& kernel) {
    Random random(23);
    for (const size_t n_words : {size_t{1}, size_t{2}, size_t{9}, kMaxRingWords})
        for (const size_t n : {1, 64, 65, 200, 1100}) {
            if (quick() && !random.one_in(4)) continue;
            if (n_words == kMaxRingWords && n != 65) continue;
            for (const Data& data : data_sets(random, n, n_words)) {
                RingStore store(random, data.rows, 1 + random.below(40), 1 + random.below(12));
                const Rows queries = queries_for(random, data.rows, random.one_in(2) ? 5 : kernel.sliced_from + 1);
                const unsigned threads = 1 + static_cast<unsigned>(random.below(4));
                check_searches(kernel, Database{{&store}}, queries, 10, threads);

                // With ids of its own, removed codes, a tail of new codes and a filter.
                std::vector<int64_t> by_rank(n);
                for (size_t i = 0; i < n; ++i) by_rank[i] = static_cast<int64_t>(5 * i + random.below(5));
                store.set_ids_by_rank(by_rank);
                std::vector<bool> dead(n);
                for (size_t i = 0; i < n; ++i) dead[i] = random.one_in(3);
                store.set_dead(dead);
                Store tail(random, clustered_rows(random, 70, n_words, 3, 9), 1);
                std::vector<int64_t> tail_ids(70);
                // Before the others or behind them.
                const int64_t first = random.one_in(2) ? 100000 : -200;
                for (size_t i = 0; i < 70; ++i) tail_ids[i] = first + static_cast<int64_t>(i);
                tail.set_ids(tail_ids);
                check_searches(kernel, Database{{&store, &tail}}, queries, 7, threads);
                for (const size_t one_in : {2, 100}) {
                    std::vector<std::vector<bool>> allowed;
                    for (const Store* s : {static_cast<const Store*>(&store), static_cast<const Store*>(&tail)}) {
                        allowed.emplace_back(s->rows.size());
                        for (size_t i = 0; i < s->rows.size(); ++i) allowed.back()[i] = random.one_in(one_in);
                    }
                    check_searches(kernel, Database{{&store, &tail}, allowed}, queries, 7, threads);
                }
                check_searches(kernel, Database{{&store, &tail}, {std::vector<bool>(n, false), std::vector<bool>(70, false)}},
                               queries, 7, threads);
            }
        }
}

// That rings do answer where data is clustered, scanning little, and give up where it is not.
void pays() {
    Random random(24);
    const size_t n = 30000;  // with fewer, what it costs to go to a cluster weighs too much
    const Metric plain;
    const Rows codes = clustered_rows(random, n, 2, 100, 40);
    const RingStore clustered(random, codes, 100, 64);
    const Rows queries = queries_for(random, codes, 9);
    {
        Rows among = queries;
        for (size_t j = 3; j < 9; j += 4) std::copy_n(codes.row(j), 2, among.row(j));
        const Database database{{&clustered}};
        const Reference reference(best_kernel(), database, among, plain);
        reference.check_topk(10);
        CHECK_IN(clustered.ring.answered == 9 && clustered.ring.handed_back == 0, "answered",
                 clustered.ring.answered.load());
        CHECK_IN(clustered.ring.codes_scanned < 9 * n / 10, "codes scanned", clustered.ring.codes_scanned.load());
        reference.check_within(5);
        CHECK(clustered.ring.answered + clustered.ring.handed_back == 18);
    }
    const RingStore uniform(random, uniform_rows(random, n, 2), 100, 64);
    const Rows anywhere = uniform_rows(random, 9, 2);
    const Database database{{&uniform}};
    Reference(best_kernel(), database, anywhere, plain).check_topk(10);
    CHECK_IN(uniform.ring.handed_back == 9, "handed back", uniform.ring.handed_back.load());

    // Two segments with rings: the first may answer and the second hand back, and then all starts anew.
    RingStore second(random, uniform_rows(random, n, 2), 100, 64);
    std::vector<int64_t> ids(n);
    for (size_t i = 0; i < n; ++i) ids[i] = static_cast<int64_t>(1000 + n + i);
    second.set_ids_by_rank(ids);
    const Database both{{&clustered, &second}};
    const Reference of_both(best_kernel(), both, queries, plain);
    of_both.check_topk(10);
    of_both.check_within(30);
}

void choice() {
    Random random(25);
    for (const size_t n_words : {size_t{1}, size_t{3}, kMaxRingWords})
        for (const size_t n : {1, 2, 10, 63, 64, 65, 500, 4000}) {
            if (n_words == kMaxRingWords && n > 65) continue;
            if (quick() && n > 500) continue;
            for (const Data& data : data_sets(random, n, n_words)) {
                const Store store(random, data.rows, 4);
                const RingChoice a = choose_clusters(best_kernel(), store.segment, 1);
                CHECK_IN(a.n_clusters >= 1 && std::isfinite(a.share) && a.share > 0, data.name, "n", n);
                const RingChoice b = choose_clusters(best_kernel(), store.segment, 3);
                CHECK_IN(a.n_clusters == b.n_clusters && a.share == b.share, data.name, "n", n);
                const RingParts made = build_ring(best_kernel(), store.segment, a.n_clusters, 1);
                CHECK(made.order.size() == n);
            }
        }
}

}  // namespace

void test_ring() {
    run("ring/parts", parts);
    run("ring/repeatable", repeatable);
    run("ring/pays", pays);
    run("ring/choice", choice);
    run_on_kernels("ring/as_reference", as_reference);
}

}  // namespace test
}  // namespace pyhash
