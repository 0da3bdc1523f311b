#include "hamming/search/search.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <limits>
#include <new>
#include <stdexcept>

#include "hamming/probes/machine.h"
#include "hamming/ring/ring.h"
#include "hamming/search/blocks.h"
#include "hamming/search/scan.h"
#include "hamming/threads/pool.h"

namespace pyhash {
namespace {

constexpr size_t kQueryTile = 64;
// The bit-sliced kernel shares its tables among the queries of a tile: more of them make the tables cheaper, until the
// queries' own records leave the second-level cache.
constexpr size_t kSlicedQueryTile = 512;
// What a code of a ring costs, in codes of a flat pass, as measured: for one query, and for many that share the bit-sliced
// kernel's tables. Costs are projected before the bound has shrunk, about twice as high as they turn out.
constexpr size_t kRingCost = 2;
constexpr size_t kRingCostSliced = 3;
// Blocks measured in full at first, to know about where the k-th distance lies before candidates are collected.
constexpr size_t kWarmBlocks = 32;
// Work (words of blocks) below which waking another thread costs more than it saves.
constexpr size_t kWorkPerThread = 32 * 1024;

size_t words_measured(const Metric& metric, size_t n_words) {
    return metric.terms.empty() ? n_words : metric.terms.size();
}

unsigned useful_threads(unsigned threads, size_t work) {
    const size_t most = 1 + work / kWorkPerThread;
    if (most == 1) return 1;
    if (threads == 0) threads = available_cpus();
    return static_cast<unsigned>(std::min<size_t>(threads, most));
}

// Blocks [begin, end) of one segment.
struct Range {
    size_t segment;
    size_t begin;
    size_t end;
};

// The target's blocks in order, cut into `parts` lists of about equal length.
std::vector<std::vector<Range>> split(const Target& target, size_t parts) {
    size_t total = 0;
    for (const Segment* segment : target.segments) total += segment->n_blocks();
    std::vector<std::vector<Range>> lists(parts);
    size_t before = 0;  // blocks in earlier segments
    for (size_t s = 0; s < target.segments.size(); ++s) {
        const size_t n = target.segments[s]->n_blocks();
        for (size_t p = 0; p < parts; ++p) {
            const size_t begin = std::max(total * p / parts, before);
            const size_t end = std::min(total * (p + 1) / parts, before + n);
            if (begin < end) lists[p].push_back({s, begin - before, end - before});
        }
        before += n;
    }
    return lists;
}

const uint64_t* allowed_of(const Target& target, size_t segment) {
    return target.allowed.empty() ? nullptr : target.allowed[segment];
}

// What a scan does with what it finds: `bound()` says how near is near enough (negative: nothing is any more), `take` gets
// each candidate, ids ascending within a range.
struct TopKCollector {
    TopK top;
    int64_t bound() const { return top.bound(); }
    void take(const Segment& segment, size_t slot, uint32_t distance) { top.push(distance, segment.id(slot)); }
};

// Memory for results whose number nobody knows beforehand: a radius too large must be an error, not the end of the process.
class Budget {
public:
    void add(size_t bytes) {
        const size_t before = bytes_.fetch_add(bytes);
        if (before + bytes <= kUnasked) return;
        // Vectors grow by copying, and the caller gets arrays of its own.
        if (before <= kUnasked) limit_ = available_memory() / 4;
        if (before + bytes > limit_) throw std::bad_alloc();
    }

private:
    static constexpr size_t kUnasked = size_t{1} << 24;  // so much is there, and to ask takes longer than most searches

    std::atomic<size_t> bytes_{0};
    std::atomic<size_t> limit_{std::numeric_limits<size_t>::max()};
};

template <class Result>
void append(std::vector<Result>& found, const Result& result, Budget& budget) {
    if (found.size() == found.capacity()) {
        const size_t more = std::max<size_t>(found.capacity(), 8);
        budget.add(more * sizeof(Result));
        found.reserve(found.capacity() + more);
    }
    found.push_back(result);
}

struct WithinCollector {
    std::vector<Candidate> found;
    int64_t radius;
    Budget* budget;
    int64_t bound() const { return radius; }
    void take(const Segment& segment, size_t slot, uint32_t distance) {
        append(found, {distance, segment.id(slot)}, *budget);
    }
};

struct PairCollector {
    std::vector<Pair>* found;
    Budget* budget;
    int64_t radius;
    int64_t id;
    size_t after;  // slots up to this one are not taken; the self-join meets each pair of a segment once
    bool same_segment;
    int64_t bound() const { return radius; }
    void take(const Segment& segment, size_t slot, uint32_t distance) {
        if (same_segment && slot <= after) return;
        const int64_t other = segment.id(slot);
        append(*found, {std::min(id, other), std::max(id, other), distance}, *budget);
    }
};

// Fills an empty collector from the first blocks: all are measured, then only those are pushed that can be among the k.
// Number is one that holds every distance of the metric, and one more; the narrower, the faster the k-th is found.
template <class Number>
size_t warm_start(const Segment& segment, const uint64_t* allowed, size_t begin, size_t end, const Probe& probe, FindFn find,
                  TopK& top) {
    constexpr Number kHidden = std::numeric_limits<Number>::max();
    const size_t last = std::min(end, begin + kWarmBlocks);
    const size_t n = (last - begin) * kLanes;
    Number distances[kWarmBlocks * kLanes];
    size_t n_visible = 0;
    Hit hit;
    for (size_t b = begin; b < last; ++b) {
        find(segment.block(b), 0, 1, probe, std::numeric_limits<uint32_t>::max(), hit);
        Number* out = distances + (b - begin) * kLanes;
        for (size_t i = 0; i < kLanes; ++i) out[i] = static_cast<Number>(hit.distances[i]);
        const uint64_t visible = segment.visible(b, allowed);
        n_visible += popcount(visible);
        for (uint64_t hidden = ~visible; hidden != 0; hidden &= hidden - 1) out[count_trailing_zeros(hidden)] = kHidden;
    }
    Number bound = kHidden - 1;
    if (n_visible > top.k()) {
        // The k-th smallest by bisection on the value: a few passes over an array in cache, whatever the metric's range.
        Number low = 0;
        bound = static_cast<Number>(std::min<int64_t>(top.bound(), kHidden - 1));
        while (low < bound) {
            const Number middle = static_cast<Number>(low + (bound - low) / 2);
            Number count = 0;  // at most kWarmBlocks * kLanes
            for (size_t i = 0; i < n; ++i) count = static_cast<Number>(count + (distances[i] <= middle));
            if (static_cast<size_t>(count) >= top.k())
                bound = middle;
            else
                low = static_cast<Number>(middle + 1);
        }
    }
    constexpr size_t kGroup = 16;  // few are near enough: whole groups are passed over
    for (size_t first = 0; first < n; first += kGroup) {
        Number near = 0;
        for (size_t i = first; i < first + kGroup; ++i) near |= distances[i] <= bound;
        if (near == 0) continue;
        for (size_t i = first; i < first + kGroup; ++i)
            if (distances[i] <= bound) top.push(static_cast<uint32_t>(distances[i]), segment.id(begin * kLanes + i));
    }
    return last;
}

// The k nearest of a tile of queries in a list of ranges.
void topk_in(const Target& target, const std::vector<Range>& ranges, const Probe* probes, size_t n, FindFn find,
             const Slicer* slicer, uint32_t max_distance, std::vector<TopKCollector>& collectors) {
    const auto start = max_distance < uint32_t{std::numeric_limits<int16_t>::max()} ? warm_start<int16_t> : warm_start<int32_t>;
    bool warm = false;
    for (const Range& range : ranges) {
        const Segment& segment = *target.segments[range.segment];
        const uint64_t* allowed = allowed_of(target, range.segment);
        size_t begin = range.begin;
        if (!warm) {
            for (size_t j = 0; j < n; ++j)
                begin = start(segment, allowed, range.begin, range.end, probes[j], find, collectors[j].top);
            warm = true;
        }
        scan_best(segment, allowed, begin, range.end, probes, n, find, slicer, collectors.data());
    }
}

void write_padded(const std::vector<Candidate>& nearest, size_t k, int32_t* distances, int64_t* ids) {
    const size_t n = std::min(k, nearest.size());
    for (size_t i = 0; i < n; ++i) {
        distances[i] = static_cast<int32_t>(nearest[i].distance);
        ids[i] = nearest[i].id;
    }
    std::fill(distances + n, distances + k, kPadDistance);
    std::fill(ids + n, ids + k, kPadId);
}

size_t total_blocks(const Target& target) {
    size_t n = 0;
    for (const Segment* segment : target.segments) n += segment->n_blocks();
    return n;
}

// How a call is shared out: tiles of queries, each over one or several parts of the database.
struct Plan {
    unsigned threads;
    const Slicer* slicer;
    size_t query_tile;
    size_t n_tiles;
    size_t parts;
};

Plan make_plan(const Kernel& kernel, const Target& target, const Queries& queries, const Metric& metric, unsigned threads) {
    Plan plan;
    const size_t work = total_blocks(target) * words_measured(metric, queries.n_words) * queries.n;
    plan.threads = useful_threads(threads, work);
    plan.slicer = slicer_for(kernel, metric, queries.n_words, queries.n);
    plan.query_tile = std::min(plan.slicer != nullptr ? kSlicedQueryTile : kQueryTile, queries.n);
    plan.n_tiles = (queries.n + plan.query_tile - 1) / plan.query_tile;
    // Few queries: each passes over the parts of the database side by side.
    plan.parts = plan.n_tiles >= 4 * plan.threads ? 1 : plan.threads;
    return plan;
}

size_t total_codes(const Target& target) {
    size_t n = 0;
    for (const Segment* segment : target.segments) n += segment->n_codes;
    return n;
}

bool ids_ascend(const Target& target) {
    return target.segments.size() == 1 && target.segments[0]->order == nullptr;
}

void topk_flat(const Kernel& kernel, const Target& target, const Queries& queries, const Metric& metric, size_t k, unsigned threads,
          int32_t* distances, int64_t* ids) {
    const size_t kept = std::min(k, total_codes(target));
    const uint32_t max_distance = metric.max_distance(queries.n_words);
    const Plan plan = make_plan(kernel, target, queries, metric, threads);
    const std::vector<std::vector<Range>> lists = split(target, plan.parts);
    const FindFn find = kernel.finder(make_probe(metric, queries.words, queries.n_words));
    std::vector<std::vector<Candidate>> partial(plan.parts > 1 ? plan.parts * queries.n : 0);

    run_tasks(plan.n_tiles * plan.parts, plan.threads, [&](size_t task) {
        const size_t tile = task / plan.parts;
        const size_t part = task % plan.parts;
        const size_t first = tile * plan.query_tile;
        const size_t n = std::min(plan.query_tile, queries.n - first);
        std::vector<Probe> probes;
        std::vector<TopKCollector> collectors;
        probes.reserve(n);
        collectors.reserve(n);
        for (size_t j = 0; j < n; ++j) {
            probes.push_back(make_probe(metric, queries.words + (first + j) * queries.n_words, queries.n_words));
            collectors.push_back({TopK(kept, max_distance, ids_ascend(target))});
        }
        topk_in(target, lists[part], probes.data(), n, find, plan.slicer, max_distance, collectors);
        for (size_t j = 0; j < n; ++j) {
            std::vector<Candidate>& nearest = collectors[j].top.finish();
            if (plan.parts == 1)
                write_padded(nearest, k, distances + (first + j) * k, ids + (first + j) * k);
            else
                partial[(first + j) * plan.parts + part] = std::move(nearest);
        }
    });

    if (plan.parts == 1) return;
    for (size_t j = 0; j < queries.n; ++j) {
        std::vector<Candidate>& all = partial[j * plan.parts];
        for (size_t part = 1; part < plan.parts; ++part) {
            const std::vector<Candidate>& more = partial[j * plan.parts + part];
            all.insert(all.end(), more.begin(), more.end());
        }
        std::sort(all.begin(), all.end());
        write_padded(all, k, distances + j * k, ids + j * k);
    }
}

std::vector<std::vector<Candidate>> within_flat(const Kernel& kernel, const Target& target, const Queries& queries, const Metric& metric,
                                                uint32_t radius, unsigned threads) {
    std::vector<std::vector<Candidate>> results(queries.n);
    const Plan plan = make_plan(kernel, target, queries, metric, threads);
    const std::vector<std::vector<Range>> lists = split(target, plan.parts);
    const FindFn find = kernel.finder(make_probe(metric, queries.words, queries.n_words));
    std::vector<std::vector<Candidate>> partial(plan.parts * queries.n);
    Budget budget;

    run_tasks(plan.n_tiles * plan.parts, plan.threads, [&](size_t task) {
        const size_t tile = task / plan.parts;
        const size_t part = task % plan.parts;
        const size_t first = tile * plan.query_tile;
        const size_t n = std::min(plan.query_tile, queries.n - first);
        std::vector<Probe> probes;
        std::vector<WithinCollector> collectors(n);
        probes.reserve(n);
        for (size_t j = 0; j < n; ++j) {
            probes.push_back(make_probe(metric, queries.words + (first + j) * queries.n_words, queries.n_words));
            collectors[j].radius = radius;
            collectors[j].budget = &budget;
        }
        for (const Range& range : lists[part])
            scan_best(*target.segments[range.segment], allowed_of(target, range.segment), range.begin, range.end,
                      probes.data(), n, find, plan.slicer, collectors.data());
        for (size_t j = 0; j < n; ++j) partial[(first + j) * plan.parts + part] = std::move(collectors[j].found);
    });

    run_tasks(queries.n, plan.threads, [&](size_t j) {
        std::vector<Candidate>& all = results[j];
        all = std::move(partial[j * plan.parts]);
        for (size_t part = 1; part < plan.parts; ++part) {
            std::vector<Candidate>& more = partial[j * plan.parts + part];
            all.insert(all.end(), more.begin(), more.end());
            std::vector<Candidate>().swap(more);
        }
        std::sort(all.begin(), all.end());
    });
    return results;
}

// Queries picked out of others.
struct Picked {
    std::vector<size_t> numbers;
    std::vector<uint64_t> words;
};

// Answers by rings the queries for which that takes less than 1 / `cost` of all codes, and returns the others. `start(j)` makes
// an empty collector, `finish(j, collector)` keeps a full one.
template <class StartFn, class FinishFn>
Picked search_rings(const Kernel& kernel, const Target& target, const Queries& queries, size_t cost, unsigned threads, const StartFn& start,
                    const FinishFn& finish) {
    constexpr size_t kQueriesPerTask = 8;
    constexpr size_t kWorkPerQuery = 2048;  // a rough guess, to decide on threads
    const Metric metric;
    const FindFn find = kernel.finder(make_probe(metric, queries.words, queries.n_words));
    std::vector<uint8_t> handed_back(queries.n, 0);
    run_tasks((queries.n + kQueriesPerTask - 1) / kQueriesPerTask, useful_threads(threads, queries.n * kWorkPerQuery),
              [&](size_t task) {
                  RingScratch scratch;
                  const size_t last = std::min(queries.n, (task + 1) * kQueriesPerTask);
                  for (size_t j = task * kQueriesPerTask; j < last; ++j) {
                      const Probe probe = make_probe(metric, queries.words + j * queries.n_words, queries.n_words);
                      auto collector = start(j);
                      for (size_t s = 0; s < target.segments.size() && !handed_back[j]; ++s) {
                          const Segment& segment = *target.segments[s];
                          if (segment.ring != nullptr)
                              handed_back[j] = !scan_rings(segment, allowed_of(target, s), probe, find,
                                                           segment.n_codes / cost, scratch, collector);
                      }
                      for (size_t s = 0; s < target.segments.size() && !handed_back[j]; ++s) {
                          const Segment& segment = *target.segments[s];
                          if (segment.ring == nullptr)
                              scan(segment, allowed_of(target, s), 0, segment.n_blocks(), &probe, 1, find, &collector);
                      }
                      if (!handed_back[j]) finish(j, collector);
                  }
              });
    Picked rest;
    for (size_t j = 0; j < queries.n; ++j)
        if (handed_back[j]) {
            rest.numbers.push_back(j);
            rest.words.insert(rest.words.end(), queries.words + j * queries.n_words, queries.words + (j + 1) * queries.n_words);
        }
    return rest;
}

// Answers each query the cheaper way. Many queries make a flat pass so cheap that only the easy ones are left to rings; but
// where too few remain to share that pass, each of them must be cheaper by rings than alone.
// `flat(queries, numbers)` answers those that are left in the end.
template <class StartFn, class FinishFn, class FlatFn>
void search_by_rings(const Kernel& kernel, const Target& target, const Queries& queries, unsigned threads, const StartFn& start,
                     const FinishFn& finish, const FlatFn& flat) {
    const auto shared = [&](size_t n) { return slicer_for(kernel, Metric(), queries.n_words, n) != nullptr; };
    Picked rest =
        search_rings(kernel, target, queries, shared(queries.n) ? kRingCostSliced : kRingCost, threads, start, finish);
    if (shared(queries.n) && !rest.numbers.empty() && !shared(rest.numbers.size())) {
        const std::vector<size_t> numbers = std::move(rest.numbers);
        rest = search_rings(
            kernel, target, Queries{rest.words.data(), numbers.size(), queries.n_words}, kRingCost, threads,
            [&](size_t j) { return start(numbers[j]); }, [&](size_t j, auto& collector) { finish(numbers[j], collector); });
        for (size_t& number : rest.numbers) number = numbers[number];
    }
    if (rest.numbers.empty()) return;
    for (const Segment* segment : target.segments)
        if (segment->ring != nullptr) segment->ring->handed_back.fetch_add(rest.numbers.size(), std::memory_order_relaxed);
    flat(Queries{rest.words.data(), rest.numbers.size(), queries.n_words}, rest.numbers);
}

bool has_ring(const Target& target, const Metric& metric) {
    if (!metric.terms.empty()) return false;  // the bound is one of the whole code
    for (const Segment* segment : target.segments)
        if (segment->ring != nullptr) return true;
    return false;
}

// A query's candidates are gathered into blocks of their own, which the kernel measures as any others.
void rerank_one(const Target& target, const std::vector<size_t>& ends, const Probe& probe, FindFn find,
                std::vector<size_t>& slots, std::vector<uint64_t>& block, TopK& top) {
    const size_t n_words = probe.n_words;
    int64_t ids[kLanes];
    Hit hit;
    size_t held = 0;  // candidates in the block
    const auto measure = [&] {
        const int64_t bound = top.bound();
        if (held == 0 || bound < 0 || find(block.data(), 0, 1, probe, static_cast<uint32_t>(bound), hit) != 0) return;
        for (uint64_t lanes = hit.lanes; lanes != 0; lanes &= lanes - 1) {
            const size_t lane = count_trailing_zeros(lanes);
            if (lane < held) top.push(hit.distances[lane], ids[lane]);
        }
    };
    std::sort(slots.begin(), slots.end());
    slots.erase(std::unique(slots.begin(), slots.end()), slots.end());
    size_t s = 0;
    for (const size_t number : slots) {
        while (number >= ends[s]) ++s;
        const Segment& segment = *target.segments[s];
        const size_t slot = number - (ends[s] - segment.n_codes);
        if ((segment.visible(slot / kLanes, allowed_of(target, s)) >> slot % kLanes & 1) == 0) continue;
        const uint64_t* source = segment.block(slot / kLanes) + slot % kLanes;
        for (size_t w = 0; w < n_words; ++w) block[w * kLanes + held] = source[w * kLanes];
        ids[held++] = segment.id(slot);
        if (held == kLanes) {
            measure();
            held = 0;
        }
    }
    measure();
}

}  // namespace

void topk(const Kernel& kernel, const Target& target, const Queries& queries, const Metric& metric, size_t k, unsigned threads,
          int32_t* distances, int64_t* ids) {
    if (queries.n == 0) return;
    const size_t kept = std::min(k, total_codes(target));
    if (kept == 0) {
        std::fill(distances, distances + queries.n * k, kPadDistance);
        std::fill(ids, ids + queries.n * k, kPadId);
        return;
    }
    if (!has_ring(target, metric)) {
        topk_flat(kernel, target, queries, metric, k, threads, distances, ids);
        return;
    }
    const uint32_t max_distance = metric.max_distance(queries.n_words);
    search_by_rings(
        kernel, target, queries, threads, [&](size_t) { return TopKCollector{TopK(kept, max_distance, false)}; },
        [&](size_t j, TopKCollector& collector) {
            write_padded(collector.top.finish(), k, distances + j * k, ids + j * k);
        },
        [&](const Queries& rest, const std::vector<size_t>& numbers) {
            std::vector<int32_t> rest_distances(rest.n * k);
            std::vector<int64_t> rest_ids(rest.n * k);
            topk_flat(kernel, target, rest, metric, k, threads, rest_distances.data(), rest_ids.data());
            for (size_t i = 0; i < numbers.size(); ++i) {
                std::copy_n(rest_distances.data() + i * k, k, distances + numbers[i] * k);
                std::copy_n(rest_ids.data() + i * k, k, ids + numbers[i] * k);
            }
        });
}

std::vector<std::vector<Candidate>> within(const Kernel& kernel, const Target& target, const Queries& queries, const Metric& metric,
                                           uint32_t radius, unsigned threads) {
    if (queries.n == 0 || target.segments.empty()) return std::vector<std::vector<Candidate>>(queries.n);
    if (!has_ring(target, metric) || radius >= 64 * queries.n_words)
        return within_flat(kernel, target, queries, metric, radius, threads);
    std::vector<std::vector<Candidate>> results(queries.n);
    Budget budget;
    search_by_rings(
        kernel, target, queries, threads, [&](size_t) { return WithinCollector{{}, radius, &budget}; },
        [&](size_t j, WithinCollector& collector) {
            std::sort(collector.found.begin(), collector.found.end());
            results[j] = std::move(collector.found);
        },
        [&](const Queries& rest, const std::vector<size_t>& numbers) {
            std::vector<std::vector<Candidate>> found = within_flat(kernel, target, rest, metric, radius, threads);
            for (size_t i = 0; i < numbers.size(); ++i) results[numbers[i]] = std::move(found[i]);
        });
    return results;
}

std::vector<Pair> pairs(const Kernel& kernel, const Target& target, uint32_t radius, unsigned threads) {
    // A task joins a few blocks of codes, as queries, with everything from there on.
    constexpr size_t kBlocksPerTask = 8;
    struct Task {
        size_t segment;
        size_t block;
    };
    std::vector<Task> tasks;
    for (size_t s = 0; s < target.segments.size(); ++s)
        for (size_t b = 0; b < target.segments[s]->n_blocks(); b += kBlocksPerTask) tasks.push_back({s, b});
    if (tasks.empty()) return {};
    const size_t n_words = target.segments[tasks[0].segment]->n_words;  // one without codes may not know it
    const Metric metric;
    const size_t work = tasks.size() * tasks.size() * n_words * kBlocksPerTask * kLanes / 2;
    std::vector<std::vector<Pair>> found(tasks.size());
    Budget budget;

    run_tasks(tasks.size(), useful_threads(threads, work), [&](size_t t) {
        const Segment& own = *target.segments[tasks[t].segment];
        const size_t end = std::min(tasks[t].block + kBlocksPerTask, own.n_blocks());
        std::vector<uint64_t> rows(kBlocksPerTask * kLanes * n_words);
        std::vector<Probe> probes;
        std::vector<PairCollector> collectors;
        for (size_t b = tasks[t].block; b < end; ++b)
            for (uint64_t lanes = own.visible(b, nullptr); lanes != 0; lanes &= lanes - 1) {
                const size_t slot = b * kLanes + count_trailing_zeros(lanes);
                uint64_t* row = rows.data() + probes.size() * n_words;
                own.row(slot, row);
                probes.push_back(make_probe(metric, row, n_words));
                collectors.push_back({&found[t], &budget, radius, own.id(slot), slot, true});
            }
        if (probes.empty()) return;
        const FindFn find = kernel.finder(probes[0]);
        const Slicer* slicer = radius < 64 * n_words ? slicer_for(kernel, metric, n_words, probes.size()) : nullptr;
        for (size_t s = tasks[t].segment; s < target.segments.size(); ++s) {
            const Segment& other = *target.segments[s];
            const size_t begin = s == tasks[t].segment ? tasks[t].block : 0;
            for (PairCollector& collector : collectors) collector.same_segment = s == tasks[t].segment;
            scan_best(other, nullptr, begin, other.n_blocks(), probes.data(), probes.size(), find, slicer,
                      collectors.data());
        }
        std::sort(found[t].begin(), found[t].end(),
                  [](const Pair& a, const Pair& b) { return a.i != b.i ? a.i < b.i : a.j < b.j; });
    });

    size_t total = 0;
    for (const std::vector<Pair>& list : found) total += list.size();
    std::vector<Pair> all;
    all.reserve(total);
    for (std::vector<Pair>& list : found) {
        all.insert(all.end(), list.begin(), list.end());
        std::vector<Pair>().swap(list);
    }
    if (!ids_ascend(target))  // else the tasks are in id order already
        std::sort(all.begin(), all.end(),
                  [](const Pair& a, const Pair& b) { return a.i != b.i ? a.i < b.i : a.j < b.j; });
    return all;
}

void rerank(const Kernel& kernel, const Target& target, const Queries& queries, const int64_t* slots, size_t n_slots,
            const Metric& metric, size_t k, unsigned threads, int32_t* distances, int64_t* ids) {
    if (queries.n == 0) return;
    std::vector<size_t> ends;
    for (const Segment* segment : target.segments) ends.push_back((ends.empty() ? 0 : ends.back()) + segment->n_codes);
    const size_t n_codes = ends.empty() ? 0 : ends.back();
    for (size_t i = 0; i < queries.n * n_slots; ++i)
        if (slots[i] < -1 || slots[i] >= static_cast<int64_t>(n_codes))
            throw std::invalid_argument("slots must be -1 or slots of the segments");
    const size_t kept = std::min({k, n_slots, n_codes});
    if (kept == 0) {
        std::fill(distances, distances + queries.n * k, kPadDistance);
        std::fill(ids, ids + queries.n * k, kPadId);
        return;
    }
    const FindFn find = kernel.finder(make_probe(metric, queries.words, queries.n_words));
    const uint32_t max_distance = metric.max_distance(queries.n_words);
    const size_t work = queries.n * n_slots * queries.n_words;  // a word from anywhere costs about as much as a row of 64
    const size_t per_task = std::max<size_t>(1, 1024 / n_slots);
    run_tasks((queries.n + per_task - 1) / per_task, useful_threads(threads, work), [&](size_t task) {
        std::vector<size_t> own;
        std::vector<uint64_t> block(queries.n_words * kLanes, 0);
        for (size_t j = task * per_task; j < std::min(queries.n, (task + 1) * per_task); ++j) {
            own.clear();
            for (size_t i = j * n_slots; i < (j + 1) * n_slots; ++i)
                if (slots[i] >= 0) own.push_back(static_cast<size_t>(slots[i]));
            TopK top(kept, max_distance, false);
            const Probe probe = make_probe(metric, queries.words + j * queries.n_words, queries.n_words);
            rerank_one(target, ends, probe, find, own, block, top);
            write_padded(top.finish(), k, distances + j * k, ids + j * k);
        }
    });
}

void hamming(const Kernel& kernel, const Queries& a, const Queries& b, unsigned threads, int32_t* distances) {
    if (a.n == 0 || b.n == 0) return;
    // b as blocks, so that the kernels measure 64 of its rows at a time.
    const size_t n_blocks = (b.n + kLanes - 1) / kLanes;
    const std::vector<uint64_t> blocks = blocks_of(b.words, b.n, b.n_words);
    const Metric metric;
    const FindFn find = kernel.finder(make_probe(metric, a.words, a.n_words));
    const size_t rows_per_task = 16;
    const size_t n_tasks = (a.n + rows_per_task - 1) / rows_per_task;
    run_tasks(n_tasks, useful_threads(threads, a.n * n_blocks * a.n_words), [&](size_t task) {
        const size_t first = task * rows_per_task;
        const size_t last = std::min(a.n, first + rows_per_task);
        Hit hit;
        for (size_t block = 0; block < n_blocks; ++block) {
            const size_t n = std::min(kLanes, b.n - block * kLanes);
            for (size_t i = first; i < last; ++i) {
                const Probe probe = make_probe(metric, a.words + i * a.n_words, a.n_words);
                find(blocks.data(), block, block + 1, probe, std::numeric_limits<uint32_t>::max(), hit);
                std::memcpy(distances + i * b.n + block * kLanes, hit.distances, n * sizeof(int32_t));
            }
        }
    });
}

}  // namespace pyhash
