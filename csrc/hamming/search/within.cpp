#include <algorithm>
#include <utility>
#include <vector>

#include "hamming/ring/by_rings.h"
#include "hamming/search/collectors.h"
#include "hamming/search/plan.h"
#include "hamming/search/search.h"
#include "hamming/threads/pool.h"

namespace pyhash {
namespace {

std::vector<std::vector<Candidate>> within_flat(const Kernel& kernel, const Target& target, const Queries& queries, const Metric& metric,
                                                uint32_t radius, unsigned threads, size_t room) {
    std::vector<std::vector<Candidate>> results(queries.n);
    const Plan plan = make_plan(kernel, target, queries, metric, threads);
    const std::vector<std::vector<Range>> lists = split(target, plan.parts);
    const FindFn find = kernel.finder(make_probe(metric, queries.words, queries.n_words));
    std::vector<std::vector<Candidate>> partial(plan.parts * queries.n);
    Budget budget(room);

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

}  // namespace

std::vector<std::vector<Candidate>> within(const Kernel& kernel, const Target& target, const Queries& queries, const Metric& metric,
                                           uint32_t radius, unsigned threads, size_t room) {
    if (queries.n == 0 || target.segments.empty()) return std::vector<std::vector<Candidate>>(queries.n);
    if (!has_ring(target, metric) || radius >= 64 * queries.n_words)
        return within_flat(kernel, target, queries, metric, radius, threads, room);
    std::vector<std::vector<Candidate>> results(queries.n);
    Budget budget(room);
    search_by_rings(
        kernel, target, queries, threads, [&](size_t) { return WithinCollector{{}, radius, &budget}; },
        [&](size_t j, WithinCollector& collector) {
            std::sort(collector.found.begin(), collector.found.end());
            results[j] = std::move(collector.found);
        },
        [&](const Queries& rest, const std::vector<size_t>& numbers) {
            std::vector<std::vector<Candidate>> found = within_flat(kernel, target, rest, metric, radius, threads, room);
            for (size_t i = 0; i < numbers.size(); ++i) results[numbers[i]] = std::move(found[i]);
        });
    return results;
}

}  // namespace pyhash
