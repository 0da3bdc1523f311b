#include <algorithm>
#include <array>
#include <functional>
#include <limits>
#include <mutex>
#include <utility>
#include <vector>

#include "hamming/join/join.h"
#include "hamming/ring/by_rings.h"
#include "hamming/search/blocks.h"
#include "hamming/search/collectors.h"
#include "hamming/search/plan.h"
#include "hamming/search/search.h"
#include "hamming/threads/pool.h"
#include "hamming/threads/stop.h"

namespace pyhash {
namespace {

constexpr size_t kFewQueries = 64;  // below, no key pays

// Keeps pairs of a query and a code as what was found for the query.
class FoundByQuery : public PairTaker {
public:
    FoundByQuery(std::vector<std::vector<Candidate>>& found, const Ranks& codes, size_t room)
        : found_(&found), codes_(&codes), budget_(room) {}

    void take(const RankPair* pairs, size_t n) override {
        for (const RankPair* pair = pairs; pair != pairs + n; ++pair) {
            const Candidate candidate{pair->distance, codes_->id(pair->j)};
            const std::lock_guard<std::mutex> lock(mutexes_[pair->i % mutexes_.size()]);
            append((*found_)[pair->i], candidate, budget_);
        }
    }

private:
    std::vector<std::vector<Candidate>>* found_;
    const Ranks* codes_;
    std::array<std::mutex, 64> mutexes_;
    Budget budget_;
};

// A join of queries and codes, where that is cheaper than to pass every query over all of them; if not, false.
bool within_by_keys(const Kernel& kernel, const Target& target, const Queries& queries, const Metric& metric, uint32_t radius,
                    unsigned threads, size_t room, double dearer, std::vector<std::vector<Candidate>>& results) {
    if (queries.n < kFewQueries || queries.n > std::numeric_limits<uint32_t>::max()) return false;
    const Ranks codes(target, false);
    if (!codes.possible()) return false;
    const std::vector<uint64_t> blocks = blocks_of(queries.words, queries.n, queries.n_words);
    Segment segment;
    segment.chunks = {blocks.data()};
    segment.n_codes = queries.n;
    segment.n_words = queries.n_words;
    segment.blocks_per_chunk = segment.n_blocks();
    const Target rows{{&segment}, {}};
    FoundByQuery found(results, codes, room);
    const JoinReport report = join_by_keys(kernel, rows, Ranks(rows), target, codes, metric, radius, threads, found, room,
                                           dearer);
    if (report.n_keys == 0) return false;
    run_tasks(queries.n, threads,
              [&](size_t j) { sort_stoppable(results[j].begin(), results[j].end(), std::less<Candidate>()); });
    return true;
}

std::vector<std::vector<Candidate>> within_all(const Kernel& kernel, const Target& target, const Queries& queries,
                                               const Metric& metric, uint32_t radius, unsigned threads, size_t room,
                                               double dearer) {
    std::vector<std::vector<Candidate>> results(queries.n);
    if (within_by_keys(kernel, target, queries, metric, radius, threads, room, dearer, results)) return results;
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
        sort_stoppable(all.begin(), all.end(), std::less<Candidate>());
    });
    return results;
}

}  // namespace

std::vector<std::vector<Candidate>> within(const Kernel& kernel, const Target& target, const Queries& queries, const Metric& metric,
                                           uint32_t radius, unsigned threads, size_t room, double dearer) {
    if (queries.n == 0 || target.segments.empty()) return std::vector<std::vector<Candidate>>(queries.n);
    if (!has_ring(target, metric) || radius >= 64 * queries.n_words)
        return within_all(kernel, target, queries, metric, radius, threads, room, dearer);
    std::vector<std::vector<Candidate>> results(queries.n);
    Budget budget(room);
    search_by_rings(
        kernel, target, queries, threads, [&](size_t) { return WithinCollector{{}, radius, &budget}; },
        [&](size_t j, WithinCollector& collector) {
            sort_stoppable(collector.found.begin(), collector.found.end(), std::less<Candidate>());
            results[j] = std::move(collector.found);
        },
        [&](const Queries& rest, const std::vector<size_t>& numbers) {
            std::vector<std::vector<Candidate>> found = within_all(kernel, target, rest, metric, radius, threads, room, dearer);
            for (size_t i = 0; i < numbers.size(); ++i) results[numbers[i]] = std::move(found[i]);
        });
    return results;
}

}  // namespace pyhash
