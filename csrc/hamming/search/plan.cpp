#include "hamming/search/plan.h"

#include <algorithm>

#include "hamming/threads/pool.h"

namespace pyhash {
namespace {

constexpr size_t kQueryTile = 64;
// The bit-sliced kernel shares its tables among the queries of a tile: more of them make the tables cheaper, until the
// queries' own records leave the second-level cache.
constexpr size_t kSlicedQueryTile = 512;
// Work (words of blocks) below which waking another thread costs more than it saves.
constexpr size_t kWorkPerThread = 32 * 1024;

}  // namespace

size_t words_measured(const Metric& metric, size_t n_words) {
    return metric.terms.empty() ? n_words : metric.terms.size();
}

unsigned useful_threads(unsigned threads, size_t work) {
    const size_t most = 1 + work / kWorkPerThread;
    if (most == 1) return 1;
    if (threads == 0) threads = available_cpus();
    return static_cast<unsigned>(std::min<size_t>(threads, most));
}

std::vector<std::vector<Range>> split(const Target& target, size_t parts) {
    const size_t total = total_blocks(target);
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

Plan make_plan(const Kernel& kernel, const Target& target, const Queries& queries, const Metric& metric, unsigned threads) {
    Plan plan;
    const size_t work = total_blocks(target) * words_measured(metric, queries.n_words) * queries.n;
    plan.threads = useful_threads(threads, work);
    plan.slicer = slicer_for(kernel, metric, queries.n_words, queries.n);
    plan.query_tile = std::min(plan.slicer != nullptr ? kSlicedQueryTile : kQueryTile, queries.n);
    plan.n_tiles = (queries.n + plan.query_tile - 1) / plan.query_tile;
    // Few queries: each passes over the parts of the database side by side. No more parts than give each thread some work, for a
    // query's candidates are held for each.
    plan.parts = std::min<size_t>(plan.threads, (4 * plan.threads + plan.n_tiles - 1) / std::max<size_t>(plan.n_tiles, 1));
    return plan;
}

size_t total_blocks(const Target& target) {
    size_t n = 0;
    for (const Segment* segment : target.segments) n += segment->n_blocks();
    return n;
}

size_t total_codes(const Target& target) {
    size_t n = 0;
    for (const Segment* segment : target.segments) n += segment->n_codes;
    return n;
}

bool ids_ascend(const Target& target) {
    return target.segments.size() == 1 && target.segments[0]->order == nullptr;
}

}  // namespace pyhash
