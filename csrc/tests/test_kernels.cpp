// Every kernel's own two ways to look at blocks, against the reference: find() and the bit-sliced pass.
#include <algorithm>
#include <limits>
#include <vector>

#include "hamming/kernels/dispatch.h"
#include "hamming/search/scan.h"
#include "test.h"

namespace pyhash {
namespace test {
namespace {

constexpr uint32_t kNoBound = std::numeric_limits<uint32_t>::max();

// A run of blocks with all their distances to one query, as the reference measures them.
struct Measured {
    std::vector<uint64_t> blocks;  // at 8 bytes and no more
    size_t n_blocks;
    std::vector<uint32_t> distances;  // (n_blocks, 64)
    std::vector<uint32_t> least;      // (n_blocks,)
    const Probe& probe;

    // Lane l of block b is row 64 b + l.
    Measured(const Rows& rows, const Probe& p, const Metric& metric)
        : blocks(rows.words.size() + 1), n_blocks(rows.size() / kLanes), least(n_blocks, kNoBound), probe(p) {
        for (size_t i = 0; i < rows.size(); ++i) {
            for (size_t w = 0; w < rows.n_words; ++w)
                at(i / kLanes, rows.n_words)[w * kLanes + i % kLanes] = rows.row(i)[w];
            const uint64_t d = slow_distance(p.query, rows.row(i), rows.n_words, metric);
            CHECK(d <= kMaxDistance);
            distances.push_back(static_cast<uint32_t>(d));
            least[i / kLanes] = std::min(least[i / kLanes], distances.back());
        }
    }

    const uint64_t* data() const { return blocks.data() + shift(); }

    void check(FindFn find, size_t begin, size_t end, uint32_t bound) const {
        size_t expected = begin;
        while (expected < end && least[expected] > bound) ++expected;
        Hit hit;
        const size_t b = find(data(), begin, end, probe, bound, hit);
        CHECK_IN(b == expected, "n_words", probe.n_words, "terms", probe.n_terms, "bound", bound, "blocks", begin, "to", end,
                 "got", b, "not", expected);
        if (b == end) return;
        for (size_t lane = 0; lane < kLanes; ++lane) {
            const uint32_t d = distances[b * kLanes + lane];
            CHECK_IN(hit.distances[lane] == d, "n_words", probe.n_words, "terms", probe.n_terms, "lane", lane, "got",
                     hit.distances[lane], "not", d);
            CHECK_IN((hit.lanes >> lane & 1) == (d <= bound), "n_words", probe.n_words, "terms", probe.n_terms, "lane", lane,
                     "distance", d, "bound", bound);
        }
    }

private:
    // vectors are aligned at 16: the second word is not.
    size_t shift() const { return reinterpret_cast<uintptr_t>(blocks.data()) % 16 == 0 ? 1 : 0; }
    uint64_t* at(size_t b, size_t n_words) { return blocks.data() + shift() + b * n_words * kLanes; }
};

const std::vector<size_t> kWidths = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14,
                                     15, 16, 17, 18, 19, 20, 31, 32, 33, 62, 63, 64, 125, 1024};

// All bounds of the plain metric, every range of blocks at some of them.
void find_plain(const Kernel& kernel) {
    Random random(2);
    const Metric metric;
    for (const size_t n_words : kWidths) {
        const Rows query = uniform_rows(random, 1, n_words);
        const Probe probe = make_probe(metric, query.row(0), n_words);
        const FindFn find = kernel.finder(probe);
        const size_t n_blocks = n_words > 100 ? 2 : 5;
        const Measured measured(rows_round(random, n_blocks * kLanes, query.row(0), n_words), probe, metric);
        const size_t n_bits = 64 * n_words;
        const size_t step = std::max<size_t>(1, n_bits / full_or(4096, 32));
        for (size_t bound = 0; bound < n_bits; bound += step)
            measured.check(find, 0, n_blocks, static_cast<uint32_t>(bound));
        for (const size_t bound : {n_bits - 1, n_bits, n_bits + 1}) measured.check(find, 0, n_blocks, static_cast<uint32_t>(bound));
        measured.check(find, 0, n_blocks, kNoBound);
        for (size_t begin = 0; begin <= n_blocks; ++begin)
            for (size_t end = begin; end <= n_blocks; ++end)
                for (size_t b = 0; b < n_blocks; ++b)  // as near as the nearest of a block, and one nearer
                    for (const uint32_t nearer : {0u, 1u})
                        measured.check(find, begin, end, measured.least[b] - std::min(nearer, measured.least[b]));
    }
}

// One near code in one lane of one block, for every lane.
void find_lane(const Kernel& kernel) {
    Random random(3);
    const Metric metric;
    for (const size_t n_words : {1, 2, 3, 4, 5, 8, 9, 32, 63}) {
        const size_t n_bits = 64 * n_words;
        const Rows query = uniform_rows(random, 1, n_words);
        const Probe probe = make_probe(metric, query.row(0), n_words);
        const FindFn find = kernel.finder(probe);
        for (size_t lane = 0; lane < kLanes; lane += full_or(1, 7)) {
            Rows rows{n_words, {}};
            for (size_t i = 0; i < 3 * kLanes; ++i)  // all but one are the complement
                for (size_t w = 0; w < n_words; ++w) rows.words.push_back(~query.row(0)[w]);
            const size_t near = kLanes + lane;
            const size_t distance = random.below(n_bits);
            std::copy_n(query.row(0), n_words, rows.row(near));
            flip_bits(random, rows.row(near), n_words, distance);
            const Measured measured(rows, probe, metric);
            measured.check(find, 0, 3, static_cast<uint32_t>(distance));
            if (distance > 0) measured.check(find, 0, 3, static_cast<uint32_t>(distance - 1));
            measured.check(find, 0, 3, static_cast<uint32_t>(n_bits - 1));
        }
    }
}

void check_terms(const Kernel& kernel, Random& random, size_t n_words, const Metric& metric) {
    const Rows query = uniform_rows(random, 1, n_words);
    const Probe probe = make_probe(metric, query.row(0), n_words);
    const FindFn find = kernel.finder(probe);
    Rows rows = rows_round(random, 3 * kLanes, query.row(0), n_words);
    for (size_t w = 0; w < n_words; ++w) {  // nearest and farthest of all
        rows.row(70)[w] = query.row(0)[w];
        rows.row(150)[w] = ~query.row(0)[w];
    }
    const Measured measured(rows, probe, metric);
    std::vector<uint32_t> bounds = measured.distances;
    for (const uint32_t d : measured.distances) bounds.push_back(d - (d > 0));
    for (const uint32_t bound : {0u, 1u, kMaxDistance, kMaxDistance + 1, kNoBound}) bounds.push_back(bound);
    std::sort(bounds.begin(), bounds.end());
    bounds.erase(std::unique(bounds.begin(), bounds.end()), bounds.end());
    for (size_t i = 0; i < bounds.size(); i += full_or(1, 16)) measured.check(find, 0, 3, bounds[i]);
    measured.check(find, 1, 3, 0);
    measured.check(find, 2, 3, measured.least[2]);
    measured.check(find, 0, 0, kNoBound);
}

void find_terms(const Kernel& kernel) {
    Random random(4);
    for (const size_t n_words : kWidths) {
        // A level: a run of words, the outer ones in part.
        const size_t first = random.below(n_words);
        const size_t last = first + random.below(n_words - first);
        Metric level;
        for (size_t w = first; w <= last; ++w) level.terms.push_back({~uint64_t{0}, static_cast<uint32_t>(w), 1});
        level.terms.front().mask <<= 8 * random.below(8);
        level.terms.back().mask >>= 8 * random.below(7);
        check_terms(kernel, random, n_words, level);

        // Several levels: words met twice, masks that overlap or are empty, weights of 0.
        Metric mixed;
        for (size_t t = 0; t < 1 + random.below(12); ++t)
            mixed.terms.push_back({random.one_in(8) ? 0 : random.word() & random.word(),
                                   static_cast<uint32_t>(random.below(n_words)), static_cast<uint32_t>(random.below(1000))});
        check_terms(kernel, random, n_words, mixed);
    }
    // Up to the limit: the farthest code is at kMaxDistance, or as near to it as the division leaves.
    for (const size_t n_words : {1, 2, 31, 125, 1024}) {
        const uint32_t word = static_cast<uint32_t>(n_words - 1);
        check_terms(kernel, random, n_words, Metric{{{uint64_t{1} << random.below(64), word, kMaxDistance}}});
        check_terms(kernel, random, n_words, Metric{{{~uint64_t{0}, word, kMaxDistance / 64}}});
        check_terms(kernel, random, n_words, Metric{{{1, word, kMaxDistance / 2}, {2, word, kMaxDistance / 2}}});
        check_terms(kernel, random, n_words,
                    Metric{{{1, word, 0x40000000}, {1u << 31, 0, 0x3ffffff0}, {0xff, word, 1}}});
        Metric all;
        for (uint32_t w = 0; w < n_words; ++w)
            all.terms.push_back({~uint64_t{0}, w, static_cast<uint32_t>(kMaxDistance / (64 * n_words))});
        check_terms(kernel, random, n_words, all);
    }
}

// --- The bit-sliced pass. ---

std::vector<Rows> adversarial_groups(Random& random, const Rows& queries, size_t n_codes) {
    const size_t n_words = queries.n_words;
    std::vector<Rows> groups;
    groups.push_back(uniform_rows(random, n_codes, n_words));
    groups.push_back(rows_round(random, n_codes, queries.row(0), n_words));
    groups.push_back(Rows{n_words, std::vector<uint64_t>(n_codes * n_words, 0)});
    groups.push_back(Rows{n_words, std::vector<uint64_t>(n_codes * n_words, ~uint64_t{0})});
    groups.push_back(Rows{n_words, std::vector<uint64_t>(n_codes * n_words, 0xaaaaaaaaaaaaaaaau)});
    // All at one distance from query 0, and one nearer.
    groups.push_back(Rows{n_words, std::vector<uint64_t>(n_codes * n_words)});
    const size_t distance = 1 + random.below(64 * n_words);
    for (size_t i = 0; i < n_codes; ++i) {
        std::copy_n(queries.row(0), n_words, groups.back().row(i));
        flip_bits(random, groups.back().row(i), n_words, distance - (i == n_codes / 3));
    }
    // The complement of a query, and the query itself once.
    groups.push_back(Rows{n_words, {}});
    for (size_t i = 0; i < n_codes; ++i)
        for (size_t w = 0; w < n_words; ++w) groups.back().words.push_back(~queries.row(0)[w]);
    std::copy_n(queries.row(0), n_words, groups.back().row(n_codes - 1));
    return groups;
}

// A group of blocks as the slicer sees it, and what the reference says of it.
struct SlicedGroup {
    const Slicer& slicer;
    size_t n_words;
    std::vector<uint64_t> memory;
    void* tables;
    std::vector<std::vector<uint32_t>> least;  // by query and block

    SlicedGroup(const Slicer& s, const Rows& rows, const Rows& queries)
        : slicer(s), n_words(rows.n_words), memory((s.table_bytes * n_words + 64) / sizeof(uint64_t)) {
        tables = reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(memory.data()) + 63) & ~uintptr_t{63});
        std::vector<uint64_t> blocks(1 + rows.words.size());  // from the second word on: aligned at 8 bytes and no more
        for (size_t i = 0; i < rows.size(); ++i)
            for (size_t w = 0; w < n_words; ++w)
                blocks[1 + ((i / kLanes) * n_words + w) * kLanes + i % kLanes] = rows.row(i)[w];
        slicer.build(blocks.data() + 1, n_words, tables);
        const Metric metric;
        least.assign(queries.size(), std::vector<uint32_t>(slicer.group, kNoBound));
        for (size_t j = 0; j < queries.size(); ++j)
            for (size_t i = 0; i < rows.size(); ++i) {
                uint32_t& block = least[j][i / kLanes];
                block = std::min(block, static_cast<uint32_t>(slow_distance(queries.row(j), rows.row(i), n_words, metric)));
            }
    }

    // What find() answers from each query on, with tau[j] = bounds[j] + 1.
    void check(const SlicedQueries& queries, const std::vector<int64_t>& bounds) const {
        const size_t n = bounds.size();
        for (size_t begin = 0, j = 0; begin <= n; begin = j + 1) {
            size_t expected = begin;
            uint32_t blocks = 0;
            for (; expected < n; ++expected) {
                for (size_t b = 0; b < slicer.group; ++b)
                    blocks |= static_cast<uint32_t>(least[expected][b] <= bounds[expected]) << b;
                if (blocks != 0) break;
            }
            uint32_t hit_blocks = 0;
            j = slicer.find[n_words](tables, queries.records(), begin, n, hit_blocks);
            CHECK_IN(j == expected, "n_words", n_words, "from query", begin, "bound", bounds[std::min(begin, n - 1)], "got", j,
                     "not", expected);
            CHECK_IN(j == n || hit_blocks == blocks, "n_words", n_words, "query", j, "bound", bounds[std::min(j, n - 1)],
                     "got blocks", hit_blocks, "not", blocks);
        }
    }
};

SlicedQueries sliced(const Rows& queries) {
    const Metric metric;
    std::vector<Probe> probes;
    for (size_t j = 0; j < queries.size(); ++j) probes.push_back(make_probe(metric, queries.row(j), queries.n_words));
    return SlicedQueries(probes.data(), probes.size());
}

// Every tau for several queries, on codes made to be awkward.
void slice(const Kernel& kernel) {
    const Slicer& slicer = *kernel.slicer;
    Random random(5);
    for (size_t n_words = 1; n_words <= kMaxSlicedWords; ++n_words) {
        Rows queries = uniform_rows(random, 7, n_words);
        std::fill_n(queries.row(1), n_words, 0);
        std::fill_n(queries.row(2), n_words, ~uint64_t{0});
        for (size_t w = 0; w < n_words; ++w) queries.row(3)[w] = ~queries.row(0)[w];
        for (const Rows& rows : adversarial_groups(random, queries, slicer.group * kLanes)) {
            const SlicedGroup group(slicer, rows, queries);
            SlicedQueries records = sliced(queries);
            std::vector<int64_t> bounds(queries.size());
            const int64_t n_bits = static_cast<int64_t>(64 * n_words);
            for (int64_t tau = 1; tau <= n_bits; tau += static_cast<int64_t>(full_or(1, 5))) {
                for (size_t j = 0; j < bounds.size(); ++j) records.set_bound(j, bounds[j] = tau - 1);
                group.check(records, bounds);
            }
            // Bounds that move up and down and differ by query; negative ones mean nothing is wanted, and act as 0.
            for (size_t round = 0; round < full_or(50, 10); ++round) {
                for (size_t j = 0; j < bounds.size(); ++j) {
                    if (random.one_in(3)) continue;
                    bounds[j] = static_cast<int64_t>(random.below(static_cast<size_t>(n_bits)));
                    records.set_bound(j, bounds[j]);
                }
                group.check(records, bounds);
            }
            for (size_t j = 0; j < bounds.size(); ++j) {
                records.set_bound(j, -1);
                bounds[j] = 0;
            }
            group.check(records, bounds);
        }
    }
}

// One near code in one lane of one block of the group, for every lane and block.
void slice_lane(const Kernel& kernel) {
    const Slicer& slicer = *kernel.slicer;
    Random random(6);
    for (const size_t n_words : {1, 3, 8}) {
        const Rows queries = uniform_rows(random, 1, n_words);
        const size_t n_bits = 64 * n_words;
        for (size_t lane = 0; lane < slicer.group * kLanes; lane += full_or(1, 13)) {
            Rows rows{n_words, {}};
            for (size_t i = 0; i < slicer.group * kLanes * n_words; ++i) rows.words.push_back(~queries.row(0)[i % n_words]);
            const size_t distance = random.below(n_bits);
            std::copy_n(queries.row(0), n_words, rows.row(lane));
            flip_bits(random, rows.row(lane), n_words, distance);
            const SlicedGroup group(slicer, rows, queries);
            SlicedQueries records = sliced(queries);
            for (const size_t bound : {distance, distance - (distance > 0), n_bits - 1}) {
                records.set_bound(0, static_cast<int64_t>(bound));
                group.check(records, {static_cast<int64_t>(bound)});
            }
        }
    }
}

}  // namespace

void test_kernels() {
    run_on_kernels("kernels/find_plain", find_plain);
    run_on_kernels("kernels/find_lane", find_lane);
    run_on_kernels("kernels/find_terms", find_terms);
}

void test_slicers() {
#if defined(__GNUC__)  // with vector extensions every kernel has one
    run("slicers/everywhere", [] {
        for (const Kernel* kernel : compiled_kernels()) CHECK_IN(kernel->slicer != nullptr, kernel->name);
    });
#endif
    run_on_kernels("slicers/slice", slice);
    run_on_kernels("slicers/slice_lane", slice_lane);
}

}  // namespace test
}  // namespace pyhash
