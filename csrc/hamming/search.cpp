#include "search.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "bits.h"
#include "dispatch.h"
#include "pool.h"

namespace pyhash {
namespace {

// Blocks that stay in the first-level cache while every query of a tile passes over them.
constexpr size_t kTileBytes = 24 * 1024;
constexpr size_t kQueryTile = 64;
// The bit-sliced kernel shares its tables among the queries of a tile: more of them make the tables cheaper, until the
// queries' own records leave the second-level cache.
constexpr size_t kSlicedQueryTile = 512;
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

Probe make_probe(const Metric& metric, const uint64_t* query, size_t n_words) {
    return {query, n_words, metric.terms.data(), metric.terms.size()};
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

struct WithinCollector {
    std::vector<Candidate> found;
    int64_t radius;
    int64_t bound() const { return radius; }
    void take(const Segment& segment, size_t slot, uint32_t distance) { found.push_back({distance, segment.id(slot)}); }
};

struct PairCollector {
    std::vector<Pair>* found;
    int64_t radius;
    int64_t id;
    size_t after;  // slots up to this one are not taken; the self-join meets each pair of a segment once
    bool same_segment;
    int64_t bound() const { return radius; }
    void take(const Segment& segment, size_t slot, uint32_t distance) {
        if (same_segment && slot <= after) return;
        const int64_t other = segment.id(slot);
        found->push_back({std::min(id, other), std::max(id, other), distance});
    }
};

// Passes every query over a range, tile by tile.
template <class Collector>
void scan(const Segment& segment, const uint64_t* allowed, size_t begin, size_t end, const Probe* probes, size_t n,
          FindFn find, Collector* collectors) {
    const size_t tile =
        n == 1 ? segment.blocks_per_chunk : std::max<size_t>(1, kTileBytes / (segment.n_words * kLanes * sizeof(uint64_t)));
    Hit hit;
    for (size_t from = begin; from < end;) {
        const size_t chunk_begin = from - from % segment.blocks_per_chunk;
        const size_t to = std::min({end, from + tile, chunk_begin + segment.blocks_per_chunk});
        const uint64_t* blocks = segment.block(chunk_begin);
        for (size_t j = 0; j < n; ++j) {
            Collector& collector = collectors[j];
            size_t b = from - chunk_begin;
            const size_t last = to - chunk_begin;
            for (;;) {
                const int64_t bound = collector.bound();
                if (bound < 0) break;
                b = find(blocks, b, last, probes[j], static_cast<uint32_t>(bound), hit);
                if (b >= last) break;
                const size_t block = chunk_begin + b;
                uint64_t lanes = hit.lanes & segment.visible(block, allowed);
                while (lanes != 0) {
                    const size_t lane = count_trailing_zeros(lanes);
                    lanes &= lanes - 1;
                    collector.take(segment, block * kLanes + lane, hit.distances[lane]);
                }
                ++b;
            }
        }
        from = to;
    }
}

const Slicer* slicer_for(const Metric& metric, size_t n_words, size_t n_queries) {
    const Kernel& kernel = active_kernel();
    const bool suits = metric.terms.empty() && n_words <= kMaxSlicedWords && n_queries >= kernel.sliced_from;
    return suits ? kernel.slicer : nullptr;
}

// The queries of a tile as the bit-sliced kernel reads them.
class SlicedQueries {
public:
    SlicedQueries(const Probe* probes, size_t n) : n_words_(probes[0].n_words), stride_(sliced_stride(n_words_)) {
        records_.resize(n * stride_ / sizeof(uint64_t));
        for (size_t j = 0; j < n; ++j) {
            uint8_t* offsets = reinterpret_cast<uint8_t*>(constants(j) + kSlicedConstants);
            unsigned x = 0;
            for (size_t i = 0; i < 32 * n_words_; ++i) {
                const unsigned bits = static_cast<unsigned>(probes[j].query[i / 32] >> (2 * (i % 32))) & 3;
                offsets[i] = static_cast<uint8_t>(8 * (x | bits << 1));
                x ^= (bits ^ bits >> 1) & 1;
            }
        }
    }

    const uint8_t* records() const { return reinterpret_cast<const uint8_t*>(records_.data()); }

    // Finds codes of query j at distance <= bound, which is below the number of bits.
    void set_bound(size_t j, int64_t bound) {
        uint64_t* c = constants(j);
        const int top = sliced_top(n_words_);
        const uint64_t tau = static_cast<uint64_t>(std::max<int64_t>(bound, 0)) + 1;
        const uint64_t value = (uint64_t{1} << top) - tau;
        if (((value ^ c[0]) & 1) != 0) {  // bit 0 of C begins the chain of signs: every lookup changes its x
            uint64_t* offsets = c + kSlicedConstants;
            for (size_t i = 0; i < 4 * n_words_; ++i) offsets[i] ^= 0x0808080808080808u;
        }
        c[0] = value;
        for (int l = 1; l < top; ++l) c[l] = (value >> l & 1) != 0 ? ~uint64_t{0} : 0;
    }

private:
    uint64_t* constants(size_t j) { return records_.data() + j * stride_ / sizeof(uint64_t); }

    size_t n_words_;
    size_t stride_;
    std::vector<uint64_t> records_;
};

// Like scan, for many queries. Groups of blocks go through the bit-sliced kernel, and a block where it finds something is
// measured by the plain one, which also keeps candidates in the order of their ids.
template <class Collector>
void scan_sliced(const Segment& segment, const uint64_t* allowed, size_t begin, size_t end, const Probe* probes, size_t n,
                 FindFn find, const Slicer& slicer, Collector* collectors) {
    const size_t n_words = segment.n_words;
    const int64_t all = static_cast<int64_t>(64 * n_words);  // a bound from which every code is near enough
    SlicedQueries queries(probes, n);
    std::vector<size_t> open;  // queries whose bound is still that far: the kernel has nothing to say about them
    for (size_t j = 0; j < n; ++j) {
        if (collectors[j].bound() >= all) open.push_back(j);
        queries.set_bound(j, std::min(collectors[j].bound(), all - 1));
    }
    std::vector<uint64_t> memory((slicer.table_bytes * n_words + 64) / sizeof(uint64_t));
    void* tables = reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(memory.data()) + 63) & ~uintptr_t{63});
    const auto slicer_find = slicer.find[n_words];

    size_t groups = 0;
    size_t hits = 0;
    Hit hit;
    size_t b = begin;
    while (b < end) {
        const size_t chunk_end = std::min(end, b - b % segment.blocks_per_chunk + segment.blocks_per_chunk);
        if (chunk_end - b < slicer.group) {
            scan(segment, allowed, b, chunk_end, probes, n, find, collectors);
            for (size_t j = 0; j < n; ++j) queries.set_bound(j, std::min(collectors[j].bound(), all - 1));
            b = chunk_end;
            continue;
        }
        if (!open.empty()) {
            for (size_t j : open)
                scan(segment, allowed, b, b + slicer.group, probes + j, 1, find, collectors + j);
        }
        const uint64_t* blocks = segment.block(b);
        slicer.build(blocks, n_words, tables);
        uint32_t hit_blocks = 0;
        for (size_t j = 0; (j = slicer_find(tables, queries.records(), j, n, hit_blocks)) < n; ++j) {
            Collector& collector = collectors[j];
            const int64_t before = collector.bound();
            if (before < 0 || before >= all) continue;
            ++hits;
            for (uint64_t left = hit_blocks; left != 0; left &= left - 1) {
                const size_t i = count_trailing_zeros(left);
                if (collector.bound() < 0) break;
                if (find(blocks, i, i + 1, probes[j], static_cast<uint32_t>(collector.bound()), hit) != i) continue;
                for (uint64_t lanes = hit.lanes & segment.visible(b + i, allowed); lanes != 0; lanes &= lanes - 1) {
                    const size_t lane = count_trailing_zeros(lanes);
                    collector.take(segment, (b + i) * kLanes + lane, hit.distances[lane]);
                }
            }
            if (collector.bound() != before) queries.set_bound(j, collector.bound());
        }
        if (!open.empty()) {
            size_t kept = 0;
            for (size_t j : open) {
                if (collectors[j].bound() >= all)
                    open[kept++] = j;
                else
                    queries.set_bound(j, collectors[j].bound());
            }
            open.resize(kept);
        }
        b += slicer.group;
        // Where most groups hold something for most queries, passing over them twice does not pay.
        if (++groups >= 32 && hits * 2 > groups * n) break;
    }
    if (b < end) scan(segment, allowed, b, end, probes, n, find, collectors);
}

// Passes every query over a range, the faster way.
template <class Collector>
void scan_best(const Segment& segment, const uint64_t* allowed, size_t begin, size_t end, const Probe* probes, size_t n,
               FindFn find, const Slicer* slicer, Collector* collectors) {
    if (slicer != nullptr)
        scan_sliced(segment, allowed, begin, end, probes, n, find, *slicer, collectors);
    else
        scan(segment, allowed, begin, end, probes, n, find, collectors);
}

// Fills an empty collector from the first blocks: all are measured, then only those are pushed that can be among the k.
size_t warm_start(const Segment& segment, const uint64_t* allowed, size_t begin, size_t end, const Probe& probe, FindFn find,
                  TopK& top) {
    const size_t last = std::min(end, begin + kWarmBlocks);
    uint32_t distances[kWarmBlocks * kLanes];
    size_t slots[kWarmBlocks * kLanes];
    size_t n = 0;
    Hit hit;
    uint32_t least = std::numeric_limits<uint32_t>::max();
    uint32_t most = 0;
    for (size_t b = begin; b < last; ++b) {
        find(segment.block(b), 0, 1, probe, std::numeric_limits<uint32_t>::max(), hit);
        for (uint64_t lanes = segment.visible(b, allowed); lanes != 0; lanes &= lanes - 1) {
            const size_t lane = count_trailing_zeros(lanes);
            const uint32_t distance = hit.distances[lane];
            least = std::min(least, distance);
            most = std::max(most, distance);
            distances[n] = distance;
            slots[n++] = b * kLanes + lane;
        }
    }
    uint32_t bound = most;
    if (n > top.k()) {
        // The k-th smallest by bisection on the value: some ten passes over an array in cache, whatever the metric's range.
        uint32_t low = least;
        while (low < bound) {
            const uint32_t middle = low + (bound - low) / 2;
            size_t count = 0;
            for (size_t i = 0; i < n; ++i) count += distances[i] <= middle;
            if (count >= top.k())
                bound = middle;
            else
                low = middle + 1;
        }
    }
    for (size_t i = 0; i < n; ++i)
        if (distances[i] <= bound) top.push(distances[i], segment.id(slots[i]));
    return last;
}

// The k nearest of a tile of queries in a list of ranges.
void topk_in(const Target& target, const std::vector<Range>& ranges, const Probe* probes, size_t n, FindFn find,
             const Slicer* slicer, std::vector<TopKCollector>& collectors) {
    bool warm = false;
    for (const Range& range : ranges) {
        const Segment& segment = *target.segments[range.segment];
        const uint64_t* allowed = allowed_of(target, range.segment);
        size_t begin = range.begin;
        if (!warm) {
            for (size_t j = 0; j < n; ++j)
                begin = warm_start(segment, allowed, range.begin, range.end, probes[j], find, collectors[j].top);
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

Plan make_plan(const Target& target, const Queries& queries, const Metric& metric, unsigned threads) {
    Plan plan;
    const size_t work = total_blocks(target) * words_measured(metric, queries.n_words) * queries.n;
    plan.threads = useful_threads(threads, work);
    plan.slicer = slicer_for(metric, queries.n_words, queries.n);
    plan.query_tile = std::min(plan.slicer != nullptr ? kSlicedQueryTile : kQueryTile, queries.n);
    plan.n_tiles = (queries.n + plan.query_tile - 1) / plan.query_tile;
    // Few queries: each passes over the parts of the database side by side.
    plan.parts = plan.n_tiles >= 4 * plan.threads ? 1 : plan.threads;
    return plan;
}

}  // namespace

uint32_t Metric::max_distance(size_t n_words) const {
    if (terms.empty()) return static_cast<uint32_t>(n_words * 64);
    uint64_t sum = 0;
    for (const Term& term : terms) sum += static_cast<uint64_t>(term.weight) * popcount(term.mask);
    return static_cast<uint32_t>(std::min<uint64_t>(sum, kMaxDistance));
}

void topk(const Target& target, const Queries& queries, const Metric& metric, size_t k, unsigned threads,
          int32_t* distances, int64_t* ids) {
    if (queries.n == 0) return;
    size_t n_codes = 0;
    for (const Segment* segment : target.segments) n_codes += segment->n_codes;
    if (n_codes == 0) {
        std::fill(distances, distances + queries.n * k, kPadDistance);
        std::fill(ids, ids + queries.n * k, kPadId);
        return;
    }
    const size_t kept = std::min(k, n_codes);
    const uint32_t max_distance = metric.max_distance(queries.n_words);
    const Plan plan = make_plan(target, queries, metric, threads);
    const std::vector<std::vector<Range>> lists = split(target, plan.parts);
    const FindFn find = active_kernel().finder(make_probe(metric, queries.words, queries.n_words));
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
            collectors.push_back({TopK(kept, max_distance, target.segments.size() == 1)});
        }
        topk_in(target, lists[part], probes.data(), n, find, plan.slicer, collectors);
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

std::vector<std::vector<Candidate>> within(const Target& target, const Queries& queries, const Metric& metric,
                                           uint32_t radius, unsigned threads) {
    std::vector<std::vector<Candidate>> results(queries.n);
    if (queries.n == 0 || target.segments.empty()) return results;
    const Plan plan = make_plan(target, queries, metric, threads);
    const std::vector<std::vector<Range>> lists = split(target, plan.parts);
    const FindFn find = active_kernel().finder(make_probe(metric, queries.words, queries.n_words));
    std::vector<std::vector<Candidate>> partial(plan.parts * queries.n);

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

std::vector<Pair> pairs(const Target& target, uint32_t radius, unsigned threads) {
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
    const size_t n_words = target.segments[0]->n_words;
    const Metric metric;
    const size_t work = tasks.size() * tasks.size() * n_words * kBlocksPerTask * kLanes / 2;
    std::vector<std::vector<Pair>> found(tasks.size());

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
                collectors.push_back({&found[t], radius, own.id(slot), slot, true});
            }
        if (probes.empty()) return;
        const FindFn find = active_kernel().finder(probes[0]);
        const Slicer* slicer = radius < 64 * n_words ? slicer_for(metric, n_words, probes.size()) : nullptr;
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
    if (target.segments.size() > 1)  // a single segment's tasks are in id order already
        std::sort(all.begin(), all.end(),
                  [](const Pair& a, const Pair& b) { return a.i != b.i ? a.i < b.i : a.j < b.j; });
    return all;
}

void hamming(const Queries& a, const Queries& b, unsigned threads, int32_t* distances) {
    if (a.n == 0 || b.n == 0) return;
    // b as blocks, so that the kernels measure 64 of its rows at a time.
    const size_t n_blocks = (b.n + kLanes - 1) / kLanes;
    std::vector<uint64_t> blocks(n_blocks * b.n_words * kLanes);
    for (size_t i = 0; i < b.n; ++i)
        for (size_t w = 0; w < b.n_words; ++w)
            blocks[((i / kLanes) * b.n_words + w) * kLanes + i % kLanes] = b.words[i * b.n_words + w];
    const Metric metric;
    const FindFn find = active_kernel().finder(make_probe(metric, a.words, a.n_words));
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
