#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "hamming/ring/clusters.h"
#include "hamming/ring/ring.h"
#include "hamming/search/topk.h"
#include "hamming/threads/pool.h"

namespace pyhash {
namespace {

constexpr size_t kMaxClusters = size_t{1} << 20;

}  // namespace

RingChoice choose_clusters(const Kernel& kernel, const Segment& segment, unsigned threads) {
    const size_t n = segment.n_codes;
    const size_t n_words = segment.n_words;
    if (threads == 0) threads = available_cpus();
    const Metric metric;
    constexpr size_t kQueries = 64;
    // Stored codes are not quite queries: they have themselves and their near-duplicates beside them. On codes of real networks
    // a query's tenth neighbour is about as far as a stored code's fiftieth.
    constexpr size_t kNeighbours = 64;
    const std::vector<uint64_t> queries = sample_rows(segment, std::min(n, kQueries), 2);
    const size_t n_queries = queries.size() / n_words;
    std::vector<Probe> probes;
    for (size_t j = 0; j < n_queries; ++j) probes.push_back(make_probe(metric, queries.data() + j * n_words, n_words));
    const FindFn find = kernel.finder(probes[0]);

    // How far that neighbour is: the bound that the rings must survive.
    struct BoundCollector {
        TopK top;
        int64_t bound() const { return top.bound(); }
        void take(const Segment&, size_t slot, uint32_t distance) { top.push(distance, static_cast<int64_t>(slot)); }
    };
    std::vector<int64_t> bounds(n_queries);
    constexpr size_t kPerTask = 32;
    run_tasks((n_queries + kPerTask - 1) / kPerTask, threads, [&](size_t task) {
        const size_t first = task * kPerTask;
        const size_t m = std::min(kPerTask, n_queries - first);
        std::vector<BoundCollector> collectors(m, {TopK(kNeighbours, static_cast<uint32_t>(64 * n_words), true)});
        scan_best(segment, nullptr, 0, segment.n_blocks(), probes.data() + first, m, find, slicer_for(kernel, metric, n_words, m),
                  collectors.data());
        for (size_t j = 0; j < m; ++j) bounds[first + j] = collectors[j].top.finish().back().distance;
    });

    // A trial finds centres for a sample, and counts what part of another one survives: codes lie farther from centres that
    // were found without them.
    const auto trial = [&](size_t n_clusters) {
        const std::vector<uint64_t> trained_on = sample_rows(segment, std::min(n, n_clusters * kSamplesPerCluster), 3);
        const OwnedSegment owned(train_centres(kernel, trained_on, n_words, n_clusters, threads), n_words);
        const size_t n_sample = std::min(n, std::max<size_t>(65536, 32 * n_clusters));
        const std::vector<uint64_t> sample = sample_rows(segment, n_sample, 4);
        const auto row = [&](size_t i, uint64_t* words) { std::copy_n(sample.data() + i * n_words, n_words, words); };
        const Assignment nearest = assign(kernel, n_sample, n_words, row, owned.segment, threads);
        std::vector<int64_t> least(n_clusters, std::numeric_limits<int64_t>::max());
        std::vector<int64_t> most(n_clusters, -1);
        for (size_t i = 0; i < n_sample; ++i) {
            const size_t c = nearest.cluster[i];
            least[c] = std::min<int64_t>(least[c], nearest.radius[i]);
            most[c] = std::max<int64_t>(most[c], nearest.radius[i]);
        }
        double cost = 0;
        std::vector<int64_t> to_centre(owned.segment.n_blocks() * kLanes);
        Hit hit;
        for (size_t j = 0; j < n_queries; ++j) {
            for (size_t b = 0; b < owned.segment.n_blocks(); ++b) {
                find(owned.segment.block(b), 0, 1, probes[j], std::numeric_limits<uint32_t>::max(), hit);
                std::copy_n(hit.distances, kLanes, to_centre.data() + b * kLanes);
            }
            const auto end = to_centre.begin() + static_cast<std::ptrdiff_t>(n_clusters);
            const size_t home = static_cast<size_t>(std::min_element(to_centre.begin(), end) - to_centre.begin());
            size_t survive = 0;
            for (size_t i = 0; i < n_sample; ++i) {
                const size_t c = nearest.cluster[i];
                survive += c == home || std::abs(to_centre[c] - nearest.radius[i]) <= bounds[j];
            }
            size_t ranges = 0;
            for (size_t c = 0; c < n_clusters; ++c)
                ranges += most[c] >= 0 && to_centre[c] + bounds[j] >= least[c] && to_centre[c] - bounds[j] <= most[c];
            cost += static_cast<double>(survive) * static_cast<double>(n) / static_cast<double>(n_sample) +
                    static_cast<double>(ranges * kCodesPerRange) + static_cast<double>(kCodesPerCentre * n_clusters);
        }
        return cost / static_cast<double>(n_queries) / static_cast<double>(n);
    };
    size_t start = kLanes;
    while (start * start < n) start *= 2;
    RingChoice best = {start, trial(start)};
    const size_t most = std::min(kMaxClusters, n / 16);
    for (size_t c = 2 * start; c <= most; c *= 2) {
        const RingChoice next = {c, trial(c)};
        if (next.share >= best.share) break;
        best = next;
    }
    if (best.n_clusters == start)
        for (size_t c = start / 2; c >= 32; c /= 2) {
            const RingChoice next = {c, trial(c)};
            if (next.share >= best.share) break;
            best = next;
        }
    return best;
}

}  // namespace pyhash
