// TopK, and the four searches over stores of every size, against the reference.
#include <algorithm>
#include <limits>
#include <stdexcept>
#include <vector>

#include "hamming/kernels/dispatch.h"
#include "hamming/search/blocks.h"
#include "hamming/search/search.h"
#include "hamming/search/topk.h"
#include "test.h"

namespace pyhash {
namespace test {
namespace {

// --- TopK ---

// Pushes n candidates and looks at the bound and the k nearest on the way; `draw` makes a distance.
template <class Draw>
void push_all(Random& random, size_t n, size_t k, uint32_t max_distance, bool ascending, const Draw& draw) {
    TopK top(k, max_distance, ascending);
    std::vector<Candidate> all;
    std::vector<int64_t> ids(n);
    for (size_t i = 0; i < n; ++i) ids[i] = static_cast<int64_t>(3 * i) - 100;
    if (!ascending)
        for (size_t i = n; i > 1; --i) std::swap(ids[i - 1], ids[random.below(i)]);
    std::vector<uint32_t> nearest;  // the k smallest distances, a heap
    for (size_t i = 0; i < n; ++i) {
        const Candidate candidate{draw(), ids[i]};
        // A bound too low would lose an answer: what is nearer than the k-th so far is always near enough, and so is what is
        // as near unless ids ascend.
        const int64_t kth = nearest.size() < k ? max_distance : nearest.front();
        const int64_t least_bound = nearest.size() < k ? kth : kth - (ascending ? 1 : 0);
        CHECK_IN(top.bound() >= least_bound, "k", k, "candidate", i, "bound", top.bound(), "kth", kth);
        top.push(candidate.distance, candidate.id);
        all.push_back(candidate);
        nearest.push_back(candidate.distance);
        std::push_heap(nearest.begin(), nearest.end());
        if (nearest.size() > k) {
            std::pop_heap(nearest.begin(), nearest.end());
            nearest.pop_back();
        }
    }
    std::sort(all.begin(), all.end());
    all.resize(std::min(k, n));
    const std::vector<Candidate>& found = top.finish();
    CHECK_IN(found.size() == all.size(), "k", k, "n", n, "got", found.size());
    for (size_t i = 0; i < all.size(); ++i)
        CHECK_IN(found[i].distance == all[i].distance && found[i].id == all[i].id, "k", k, "n", n, "max_distance", max_distance,
                 "ascending", static_cast<int>(ascending), "place", i);
}

void topk_random() {
    Random random(7);
    for (const bool ascending : {false, true})
        for (const uint32_t max_distance : {0u, 1u, 8u, 64u, 65536u, 131071u, 131072u, 1000000u, kMaxDistance})
            for (const size_t k : {1, 2, 10, 100, 1500})
                for (const size_t n : {0, 1, 9, 10, 11, 500, 3000, 12000}) {
                    if (quick() && n > 3000) continue;
                    push_all(random, n, k, max_distance, ascending, [&] {  // over all distances, and with many ties
                        const uint64_t range = uint64_t{max_distance} + 1;
                        return static_cast<uint32_t>(random.word() % (random.one_in(2) ? range : std::min<uint64_t>(range, 5)));
                    });
                }
}

// Ever nearer: each candidate enters, and every bucket is left.
void topk_descending() {
    Random random(8);
    for (const bool ascending : {false, true})
        for (const uint32_t step : {0u, 1u, 1u << 10, 1u << 18}) {
            const size_t n = 8000;
            const uint32_t from = static_cast<uint32_t>(n) * step;
            uint32_t distance = from;
            push_all(random, n, 20, from, ascending, [&] { return distance -= distance > 0 ? step : 0; });
        }
}

// --- Searches ---

std::vector<bool> random_bits(Random& random, size_t n, size_t one_in) {
    std::vector<bool> bits(n);
    for (size_t i = 0; i < n; ++i) bits[i] = random.one_in(one_in);
    return bits;
}

// What is written into some slots is read from them, and nothing else has changed.
void write_and_read() {
    Random random(26);
    for (const size_t n_words : {1, 2, 5, 64})
        for (const size_t n : {0, 1, 63, 64, 65, 200}) {
            const size_t slot = random.below(150);
            const size_t n_blocks = (slot + n + kLanes - 1) / kLanes + 1;
            const Rows rows = uniform_rows(random, n, n_words);
            std::vector<uint64_t> blocks(n_blocks * n_words * kLanes, 7);
            write_rows(rows.words.data(), n, n_words, blocks.data(), slot);
            Segment segment;
            segment.chunks = {blocks.data()};
            segment.blocks_per_chunk = n_blocks;
            segment.n_codes = n_blocks * kLanes;
            segment.n_words = n_words;
            std::vector<int64_t> slots(segment.n_codes);
            for (size_t i = 0; i < slots.size(); ++i) slots[i] = static_cast<int64_t>(slots.size() - 1 - i);
            std::vector<uint64_t> found(slots.size() * n_words);
            read_rows(segment, slots.data(), slots.size(), found.data());
            for (size_t i = 0; i < slots.size(); ++i)
                for (size_t w = 0; w < n_words; ++w) {
                    const size_t from = static_cast<size_t>(slots[i]);
                    const uint64_t expected = from >= slot && from < slot + n ? rows.row(from - slot)[w] : 7;
                    CHECK_IN(found[i * n_words + w] == expected, "n_words", n_words, "rows", n, "slot", from);
                }
            for (const int64_t outside : {int64_t{-1}, static_cast<int64_t>(segment.n_codes)}) {
                bool refused = false;
                try {
                    read_rows(segment, &outside, 1, found.data());
                } catch (const std::invalid_argument&) {
                    refused = true;
                }
                CHECK_IN(refused, "slot", outside);
            }
        }
}

void permuted() {
    Random random(27);
    const size_t n = 150;
    const size_t n_words = 3;
    const Store store(random, uniform_rows(random, n, n_words), 2);
    std::vector<uint32_t> order(n);
    for (size_t i = 0; i < n; ++i) order[i] = static_cast<uint32_t>((7 * i + 3) % n);
    std::vector<uint64_t> first(n_words * kLanes);
    std::vector<uint64_t> second(2 * n_words * kLanes);
    permute(store.segment, order.data(), {{first.data(), 1}, {second.data(), 2}});
    for (size_t i = 0; i < n; ++i)
        for (size_t w = 0; w < n_words; ++w) {
            const std::vector<uint64_t>& chunk = i < kLanes ? first : second;
            const size_t slot = i < kLanes ? i : i - kLanes;
            CHECK_IN(chunk[(slot / kLanes * n_words + w) * kLanes + slot % kLanes] == store.rows.row(order[i])[w], "slot", i);
        }
    order[100] = static_cast<uint32_t>(n);
    bool refused = false;
    try {
        permute(store.segment, order.data(), {{first.data(), 1}, {second.data(), 2}});
    } catch (const std::invalid_argument&) {
        refused = true;
    }
    CHECK(refused);
}

// Weights by word; a metric that no slicer serves.
Metric weighted(Random& random, size_t n_words) {
    Metric metric;
    for (uint32_t w = 0; w < n_words; ++w)
        metric.terms.push_back({random.word() | random.word(), w, static_cast<uint32_t>(random.below(100))});
    return metric;
}

// Every number of codes from none to 200, one query and enough for the bit-sliced pass.
void every_size(const Kernel& kernel) {
    Random random(9);
    const Metric plain;
    for (size_t n = 0; n <= 200; n += full_or(1, 9)) {
        const size_t n_words = 1 + n % 9;
        const size_t n_bits = 64 * n_words;
        const Store store(random, clustered_rows(random, n, n_words, 5, 8), 1 + n % 4, n % 2 != 0);
        const Database database{{&store}};
        const Metric metric = weighted(random, n_words);
        for (const size_t n_queries : {size_t{1}, size_t{3}, kernel.sliced_from + 1}) {
            Rows queries = uniform_rows(random, n_queries, n_words);
            if (n > 0) std::copy_n(store.rows.row(n / 2), n_words, queries.row(0));
            const Reference reference(kernel, database, queries, plain);
            for (const size_t k : {size_t{1}, size_t{10}, n, n + 3})
                if (k > 0) reference.check_topk(k);
            for (const size_t radius : {size_t{0}, n_bits / 5, n_bits / 2, n_bits - 1, n_bits, n_bits + 1})
                reference.check_within(static_cast<uint32_t>(radius));
            reference.check_within(std::numeric_limits<uint32_t>::max());
            const Reference of_metric(kernel, database, queries, metric);
            of_metric.check_topk(7);
            of_metric.check_within(metric.max_distance(n_words) / 2);
            for (const size_t n_slots : {size_t{1}, size_t{64}, size_t{65}, n + 3}) {
                reference.check_rerank(random, n_slots, 1 + random.below(n_slots + 2));
                of_metric.check_rerank(random, n_slots, 1 + random.below(n_slots + 2));
            }
        }
        for (const size_t radius : {size_t{0}, n_bits / 5, n_bits / 2, n_bits})
            check_pairs(kernel, database, static_cast<uint32_t>(radius));
    }
}

// Numbers of codes next to those that fill blocks, groups of blocks and chunks; several segments with ids that lie between
// those of others; removed codes; filters.
void boundaries(const Kernel& kernel) {
    Random random(10);
    const Metric plain;
    for (const size_t blocks_per_chunk : {1, 2, 3, 7, 8, 9, 16, 40})
        for (const size_t chunks : {1, 2, 3})
            for (const int more : {-65, -64, -1, 0, 1, 63}) {
                if (quick() && !random.one_in(6)) continue;
                const size_t full = blocks_per_chunk * chunks * kLanes;
                const size_t n = full - std::min(full, size_t{65}) + static_cast<size_t>(more + 65);
                const size_t n_words = 1 + random.below(4);
                Store first(random, clustered_rows(random, n, n_words, 3, 6), blocks_per_chunk, random.one_in(2));
                Store second(random, clustered_rows(random, random.below(300), n_words, 3, 6), 1 + random.below(5));
                const Store empty(random, Rows{n_words, {}}, 1);
                std::vector<const Store*> stores = {&first};
                if (random.one_in(2)) {  // ids of both in one series, shuffled into two and sorted
                    std::vector<int64_t> ids[2];
                    int64_t next = random.one_in(2) ? -500 : int64_t{1} << 40;
                    while (ids[0].size() < n || ids[1].size() < second.rows.size()) {
                        const size_t side = random.below(n + second.rows.size()) < n ? 0 : 1;
                        next += 1 + static_cast<int64_t>(random.below(4));
                        if (ids[side].size() < (side == 0 ? n : second.rows.size())) ids[side].push_back(next);
                    }
                    first.set_ids(ids[0]);
                    second.set_ids(ids[1]);
                    stores = {&empty, &first, &second};
                    if (random.one_in(2)) stores = {&second, &empty, &first};
                }
                const size_t removed = random.below(4);
                if (removed == 1) first.set_dead(random_bits(random, n, 2));
                if (removed == 2) first.set_dead(std::vector<bool>(n, true));
                if (removed == 3) second.set_dead(random_bits(random, second.rows.size(), 10));
                if (n < 3000) check_pairs(kernel, Database{stores}, static_cast<uint32_t>(random.below(20)));

                std::vector<std::vector<bool>> allowed;
                const size_t density = random.below(5);  // without a filter; all, few, half, one code allowed
                if (density > 0)
                    for (const Store* store : stores) {
                        const size_t m = store->rows.size();
                        std::vector<bool> mask(m, density == 1);
                        if (density == 2) mask = random_bits(random, m, 50);
                        if (density == 3) mask = random_bits(random, m, 2);
                        if (density == 4 && m > 0) mask[random.below(m)] = true;
                        allowed.push_back(mask);
                    }
                const Database database(stores, allowed);
                for (const size_t n_queries : {size_t{1}, kernel.sliced_from + random.below(20)}) {
                    Rows queries = uniform_rows(random, n_queries, n_words);
                    if (n > 0) std::copy_n(first.rows.row(n - 1), n_words, queries.row(0));
                    const Metric metric = random.one_in(4) ? weighted(random, n_words) : plain;
                    const Reference reference(kernel, database, queries, metric);
                    reference.check_topk(1 + random.below(30));
                    reference.check_within(static_cast<uint32_t>(random.below(metric.max_distance(n_words) / 2 + 1)));
                    if (density == 0) reference.check_rerank(random, 1 + random.below(200), 1 + random.below(30));
                }
            }
}

// Codes of any width, the widest included, and metrics whose distances come near the limit.
void every_width(const Kernel& kernel) {
    Random random(11);
    for (const size_t n_words : {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 16, 31, 32, 33, 63, 64, 65, 125, 1024}) {
        if (quick() && n_words > 100) continue;
        const Store store(random, clustered_rows(random, n_words > 100 ? 130 : 700, n_words, 10, 5), 4);
        const Database database{{&store}};
        const Rows queries = uniform_rows(random, kernel.sliced_from, n_words);
        const uint32_t n_bits = static_cast<uint32_t>(64 * n_words);
        const Metric plain;
        const Reference reference(kernel, database, queries, plain);
        reference.check_topk(20);
        reference.check_within(n_bits / 2);
        const Metric far{{{~uint64_t{0}, 0, kMaxDistance / 64}}};
        const Reference of_far(kernel, database, queries, far);
        of_far.check_topk(20);
        of_far.check_within(kMaxDistance / 2);
        of_far.check_rerank(random, 100, 20);
        check_pairs(kernel, database, n_bits / 4);
    }
}

// Everything at one distance: the answer is a matter of ids alone.
void ties(const Kernel& kernel) {
    Random random(12);
    for (const size_t n : {100, 3000, 40000}) {
        if (quick() && n > 3000) continue;
        const Rows query = uniform_rows(random, 1, 1);
        Rows rows{1, std::vector<uint64_t>(n, query.words[0])};
        for (uint64_t& word : rows.words) flip_bits(random, &word, 1, 20);
        Store store(random, rows, 64);
        Store other(random, rows, 64);
        std::vector<int64_t> even(n);
        std::vector<int64_t> odd(n);
        for (size_t i = 0; i < n; ++i) {
            even[i] = static_cast<int64_t>(2 * i);
            odd[i] = static_cast<int64_t>(2 * i) + 1;
        }
        store.set_ids(even);
        other.set_ids(odd);
        Rows queries{1, std::vector<uint64_t>(kernel.sliced_from, query.words[0])};
        queries.words[1] = ~query.words[0];
        const Metric plain;
        for (const Database& database : {Database{{&store}}, Database{{&other, &store}}}) {
            const Reference reference(kernel, database, queries, plain);
            for (const size_t k : {1, 50, 2000}) reference.check_topk(k);
            for (const size_t k : {1, 50, 2000}) reference.check_rerank(random, 500, k);
        }
    }
}

// Work enough for several threads, in each of the ways to share it: parts of the database, tiles of queries, both.
void threads(const Kernel& kernel) {
    struct Shape {
        size_t n;
        size_t n_words;
        size_t n_queries;
    };
    Random random(13);
    // Parts with few queries; parts and tiles, sliced and not; tiles alone, not sliced and sliced.
    std::vector<Shape> shapes = {{7000, 64, 16}, {7000, 4, 240}, {7000, 9, 110}, {500, 9, 1400}, {500, 1, 8200}};
    if (quick()) shapes = {{7000, 9, 70}, {130, 9, 1100}};
    const Metric plain;
    for (const Shape& shape : shapes) {
        const size_t n_tail = 333;
        const Rows all = clustered_rows(random, shape.n + n_tail + shape.n_queries, shape.n_words, 50, 7);
        const auto part = [&](size_t first, size_t n) {
            return Rows{shape.n_words, std::vector<uint64_t>(all.row(first), all.row(first + n))};
        };
        const Store store(random, part(0, shape.n), 32);
        Store tail(random, part(shape.n, n_tail), 2);
        tail.segment.first_id = 1000 + static_cast<int64_t>(shape.n);
        for (int64_t& id : tail.ids) id += static_cast<int64_t>(shape.n);
        const Rows queries = part(shape.n + n_tail, shape.n_queries);
        std::vector<const Store*> stores = {&store};
        if (&shape != &shapes.front()) stores.push_back(&tail);
        const Database database(stores);
        const Reference reference(kernel, database, queries, plain);
        for (const unsigned n_threads : {0u, 1u, 2u, 3u, 4u}) {
            reference.check_topk(10, n_threads);
            reference.check_rerank(random, 100, 10, n_threads);
            reference.check_within(static_cast<uint32_t>(64 * shape.n_words / 4), n_threads);
        }
    }
    for (const size_t n : {500, 2000}) {
        const Store store(random, clustered_rows(random, n, 2, 20, 9), 3);
        for (unsigned n_threads = 0; n_threads <= 4; ++n_threads) check_pairs(kernel, Database{{&store}}, 20, n_threads);
    }
}

// Where most groups of blocks hold something for most queries the bit-sliced pass gives up; where none does it goes on.
void many_hits(const Kernel& kernel) {
    Random random(14);
    const size_t n = kLanes * (kernel.slicer != nullptr ? kernel.slicer->group : 1) * 40 + 7;
    for (const size_t n_words : {1, 3}) {
        const Store store(random, uniform_rows(random, n, n_words), 20);
        const Rows queries = uniform_rows(random, kernel.sliced_from, n_words);
        const Database database{{&store}};
        const Metric plain;
        const Reference reference(kernel, database, queries, plain);
        for (const size_t eighths : {0, 1, 2, 3, 4, 5, 7}) reference.check_within(static_cast<uint32_t>(8 * n_words * eighths));
        reference.check_topk(1000);
    }
}

// The nearest comes last, so that the bound falls all the way through.
void falling_bound(const Kernel& kernel) {
    Random random(15);
    for (const size_t n_words : {1, 2, 8}) {
        const size_t n = quick() ? 3000 : 12000;
        const size_t n_bits = 64 * n_words;
        Rows queries = uniform_rows(random, kernel.sliced_from + 3, n_words);
        Rows rows{n_words, {}};
        for (size_t i = 0; i < n; ++i) {
            rows.words.insert(rows.words.end(), queries.row(0), queries.row(0) + n_words);
            flip_bits(random, rows.row(i), n_words, n_bits - n_bits * i / n);
        }
        const Store store(random, rows, 17);
        const Database database{{&store}};
        const Metric plain;
        const Reference reference(kernel, database, queries, plain);
        for (const size_t k : {1, 10, 200}) reference.check_topk(k);
    }
}

void distances(const Kernel& kernel) {
    Random random(16);
    const Metric plain;
    for (const size_t n_words : {1, 2, 3, 5, 8, 9, 33, 64, 1024})
        for (const size_t n : {1, 2, 17, 63, 64, 65, 130}) {
            const Rows a = uniform_rows(random, 1 + random.below(n_words > 100 ? 5 : 70), n_words);
            const Rows b = uniform_rows(random, n, n_words);
            std::vector<int32_t> found(a.size() * b.size(), -1);
            hamming(kernel, a.queries(), b.queries(), 1 + static_cast<unsigned>(random.below(4)), found.data());
            for (size_t i = 0; i < a.size(); ++i)
                for (size_t j = 0; j < b.size(); ++j)
                    CHECK_IN(static_cast<uint64_t>(found[i * b.size() + j]) == slow_distance(a.row(i), b.row(j), n_words, plain),
                             "n_words", n_words, "rows", a.size(), b.size(), "at", i, j);
        }
    const Rows none{1, {}};
    const Rows one{1, {5}};
    hamming(kernel, none.queries(), one.queries(), 1, nullptr);
    hamming(kernel, one.queries(), none.queries(), 1, nullptr);
}

// Nothing to search, or nothing to search for.
void nothing(const Kernel& kernel) {
    Random random(17);
    const Metric plain;
    const Store empty(random, Rows{2, {}}, 1);
    Segment without_memory;
    const Store few(random, uniform_rows(random, 5, 2), 1);
    for (const std::vector<const Segment*>& segments :
         std::vector<std::vector<const Segment*>>{{}, {&empty.segment}, {&without_memory}, {&empty.segment, &without_memory}}) {
        const Target target{segments, {}};
        for (const size_t n : {size_t{1}, kernel.sliced_from}) {
            const Rows queries = uniform_rows(random, n, 2);
            std::vector<int32_t> distances(3 * n);
            std::vector<int64_t> ids(3 * n);
            topk(kernel, target, queries.queries(), plain, 3, 2, distances.data(), ids.data());
            for (size_t i = 0; i < 3 * n; ++i) CHECK(distances[i] == kPadDistance && ids[i] == kPadId);
            for (const std::vector<Candidate>& list : within(kernel, target, queries.queries(), plain, 200, 2)) CHECK(list.empty());
        }
        CHECK(joined(kernel, target, nullptr, plain, 200, 2).empty());
        CHECK(joined(kernel, target, &target, plain, 200, 2).empty());
        const int64_t slots[] = {-1, -1};
        int32_t distance = 0;
        int64_t id = 0;
        rerank(kernel, target, Rows{2, {1, 2}}.queries(), slots, 2, plain, 1, 1, &distance, &id);
        CHECK(distance == kPadDistance && id == kPadId);
    }
    const Rows none{2, {}};
    topk(kernel, {{&few.segment}, {}}, none.queries(), plain, 3, 1, nullptr, nullptr);
    CHECK(within(kernel, {{&few.segment}, {}}, none.queries(), plain, 3, 1).empty());
    // A segment that has no memory yet, before, between and behind others.
    for (const std::vector<const Segment*>& segments :
         std::vector<std::vector<const Segment*>>{{&without_memory, &few.segment}, {&few.segment, &without_memory}}) {
        const Target both{segments, {}};
        CHECK(joined(kernel, both, nullptr, plain, 128, 1).size() == 10);
        CHECK(joined(kernel, both, &both, plain, 128, 1).size() == 25);
        for (const size_t n : {size_t{1}, kernel.sliced_from}) {
            const Rows queries = uniform_rows(random, n, 2);
            for (const std::vector<Candidate>& list : within(kernel, {segments, {}}, queries.queries(), plain, 128, 1))
                CHECK(list.size() == 5);
            std::vector<int32_t> distances(5 * n);
            std::vector<int64_t> ids(5 * n);
            topk(kernel, {segments, {}}, queries.queries(), plain, 5, 1, distances.data(), ids.data());
            for (size_t i = 0; i < 5 * n; ++i) CHECK(distances[i] <= 128 && ids[i] >= 1000);
        }
    }
}

}  // namespace

void test_topk() {
    run("topk/random", topk_random);
    run("topk/descending", topk_descending);
}

void test_blocks() {
    run("blocks/write_and_read", write_and_read);
    run("blocks/permuted", permuted);
}

void test_search() {
    run_on_kernels("search/every_size", every_size);
    run_on_kernels("search/boundaries", boundaries);
    run_on_kernels("search/every_width", every_width);
    run_on_kernels("search/ties", ties);
    run_on_kernels("search/threads", threads);
    run_on_kernels("search/many_hits", many_hits);
    run_on_kernels("search/falling_bound", falling_bound);
    run_on_kernels("search/distances", distances);
    run_on_kernels("search/nothing", nothing);
}

}  // namespace test
}  // namespace pyhash
