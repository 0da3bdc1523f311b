#include "hamming/ring/ring.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <stdexcept>

#include "hamming/search/blocks.h"
#include "hamming/search/topk.h"
#include "hamming/threads/pool.h"

namespace pyhash {
namespace {

constexpr size_t kTrainingRounds = 4;
constexpr size_t kSamplesPerCluster = 32;
constexpr size_t kRowsPerTask = 512;
constexpr size_t kMaxClusters = size_t{1} << 20;

// Rows of words as a segment of blocks that owns its memory.
struct OwnedSegment {
    std::vector<uint64_t> blocks;
    Segment segment;

    OwnedSegment(const std::vector<uint64_t>& rows, size_t n_words) {
        segment.n_codes = rows.size() / n_words;
        segment.n_words = n_words;
        blocks = blocks_of(rows.data(), segment.n_codes, n_words);
        segment.chunks.push_back(blocks.data());
        segment.blocks_per_chunk = segment.n_blocks();
    }
};

// The nearest centre of a code; the first of several.
struct NearestCollector {
    int64_t distance;
    size_t slot = 0;
    int64_t bound() const { return distance - 1; }
    void take(const Segment&, size_t s, uint32_t d) {
        if (static_cast<int64_t>(d) < distance) {
            distance = d;
            slot = s;
        }
    }
};

struct Assignment {
    std::vector<uint32_t> cluster;
    std::vector<uint16_t> radius;
};

// The nearest centre of rows [0, n); `row(i, words)` copies row i out.
template <class RowFn>
Assignment assign(const Kernel& kernel, size_t n, size_t n_words, const RowFn& row, const Segment& centres, unsigned threads) {
    Assignment result;
    result.cluster.resize(n);
    result.radius.resize(n);
    const Metric metric;
    run_tasks((n + kRowsPerTask - 1) / kRowsPerTask, threads, [&](size_t task) {
        const size_t first = task * kRowsPerTask;
        const size_t m = std::min(kRowsPerTask, n - first);
        std::vector<uint64_t> rows(m * n_words);
        std::vector<Probe> probes;
        probes.reserve(m);
        for (size_t j = 0; j < m; ++j) {
            row(first + j, rows.data() + j * n_words);
            probes.push_back(make_probe(metric, rows.data() + j * n_words, n_words));
        }
        std::vector<NearestCollector> nearest(m, {static_cast<int64_t>(64 * n_words) + 1});
        scan_best(centres, nullptr, 0, centres.n_blocks(), probes.data(), m, kernel.finder(probes[0]),
                  slicer_for(kernel, metric, n_words, m), nearest.data());
        for (size_t j = 0; j < m; ++j) {
            result.cluster[first + j] = static_cast<uint32_t>(nearest[j].slot);
            result.radius[first + j] = static_cast<uint16_t>(nearest[j].distance);
        }
    });
    return result;
}

std::vector<uint64_t> sample_rows(const Segment& segment, size_t n, uint64_t seed) {
    // One from each of n equal stretches of slots: spread evenly, and no pattern in the data can hide from it.
    std::vector<uint64_t> rows(n * segment.n_words);
    std::mt19937_64 random(seed);
    for (size_t i = 0; i < n; ++i) {
        const size_t begin = segment.n_codes * i / n;
        const size_t end = segment.n_codes * (i + 1) / n;
        segment.row(begin + random() % (end - begin), rows.data() + i * segment.n_words);
    }
    return rows;
}

// k-means in Hamming space: the centre that is nearest to a set of codes in sum is their bitwise majority.
std::vector<uint64_t> train_centres(const Kernel& kernel, const std::vector<uint64_t>& rows, size_t n_words, size_t n_clusters, unsigned threads) {
    const size_t n = rows.size() / n_words;
    std::mt19937_64 random(n_clusters);
    std::vector<uint64_t> centres(n_clusters * n_words);
    const auto copy_random = [&](size_t c) {
        const size_t i = random() % n;
        std::copy_n(rows.data() + i * n_words, n_words, centres.data() + c * n_words);
    };
    for (size_t c = 0; c < n_clusters; ++c) {
        const size_t begin = n * c / n_clusters;
        const size_t i = begin + random() % std::max<size_t>(1, n * (c + 1) / n_clusters - begin);
        std::copy_n(rows.data() + i * n_words, n_words, centres.data() + c * n_words);
    }
    const auto row = [&](size_t i, uint64_t* words) { std::copy_n(rows.data() + i * n_words, n_words, words); };
    std::vector<uint32_t> members(n_clusters);
    std::vector<uint32_t> ones(n_clusters * n_words * 64);
    for (size_t round = 0; round < kTrainingRounds; ++round) {
        const OwnedSegment current(centres, n_words);
        const Assignment nearest = assign(kernel, n, n_words, row, current.segment, threads);
        std::fill(members.begin(), members.end(), 0);
        std::fill(ones.begin(), ones.end(), 0);
        for (size_t i = 0; i < n; ++i) {
            ++members[nearest.cluster[i]];
            uint32_t* count = ones.data() + nearest.cluster[i] * n_words * 64;
            for (size_t w = 0; w < n_words; ++w) {
                const uint64_t word = rows[i * n_words + w];
                for (size_t bit = 0; bit < 64; ++bit) count[w * 64 + bit] += static_cast<uint32_t>(word >> bit & 1);
            }
        }
        for (size_t c = 0; c < n_clusters; ++c) {
            if (members[c] == 0) {
                copy_random(c);
                continue;
            }
            for (size_t w = 0; w < n_words; ++w) {
                uint64_t word = 0;
                for (size_t bit = 0; bit < 64; ++bit)
                    word |= static_cast<uint64_t>(2 * ones[(c * n_words + w) * 64 + bit] > members[c]) << bit;
                centres[c * n_words + w] = word;
            }
        }
    }
    return centres;
}

}  // namespace

RingParts build_ring(const Kernel& kernel, const Segment& segment, size_t n_clusters, unsigned threads) {
    const size_t n = segment.n_codes;
    const size_t n_words = segment.n_words;
    if (threads == 0) threads = available_cpus();
    n_clusters = std::min(n_clusters, n);
    std::vector<uint64_t> centres =
        train_centres(kernel, sample_rows(segment, std::min(n, n_clusters * kSamplesPerCluster), 1), n_words, n_clusters, threads);
    const auto row = [&](size_t i, uint64_t* words) { segment.row(i, words); };
    Assignment nearest;
    {
        const OwnedSegment owned(centres, n_words);
        nearest = assign(kernel, n, n_words, row, owned.segment, threads);
    }

    std::vector<uint32_t> members(n_clusters, 0);
    std::vector<uint32_t> low(n_clusters, std::numeric_limits<uint32_t>::max());
    std::vector<uint32_t> high(n_clusters, 0);
    for (size_t i = 0; i < n; ++i) {
        const uint32_t c = nearest.cluster[i];
        const uint32_t r = nearest.radius[i];
        ++members[c];
        low[c] = std::min(low[c], r);
        high[c] = std::max(high[c], r);
    }
    // Empty clusters go; the others get their rings, counted and then summed up to first slots.
    RingParts parts;
    std::vector<uint64_t> kept;
    std::vector<uint32_t> renumbered(n_clusters, 0);
    parts.first.push_back(0);
    for (size_t c = 0; c < n_clusters; ++c) {
        if (members[c] == 0) continue;
        renumbered[c] = static_cast<uint32_t>(parts.least.size());
        kept.insert(kept.end(), centres.begin() + static_cast<std::ptrdiff_t>(c * n_words),
                    centres.begin() + static_cast<std::ptrdiff_t>((c + 1) * n_words));
        parts.least.push_back(low[c]);
        parts.first.push_back(parts.first.back() + high[c] - low[c] + 2);
    }
    parts.centres = blocks_of(kept.data(), parts.least.size(), n_words);
    const auto ring_of = [&](size_t i) {
        const uint32_t c = renumbered[nearest.cluster[i]];
        return parts.first[c] + nearest.radius[i] - parts.least[c];
    };
    parts.starts.assign(parts.first.back(), 0);
    for (size_t i = 0; i < n; ++i) ++parts.starts[ring_of(i)];
    uint32_t slot = 0;
    for (uint32_t& start : parts.starts) {  // an end mark counts nothing, and so becomes the next cluster's first slot
        const uint32_t count = start;
        start = slot;
        slot += count;
    }
    std::vector<uint32_t> next(parts.starts);
    parts.order.resize(n);
    for (size_t i = 0; i < n; ++i) parts.order[next[ring_of(i)]++] = static_cast<uint32_t>(i);
    return parts;
}

std::unique_ptr<Ring> make_ring(const Segment& segment, const RingView& parts) {
    const auto require = [](bool condition, const char* message) {
        if (!condition) throw std::invalid_argument(message);
    };
    const size_t n = parts.n_clusters;
    require(segment.n_words <= kMaxRingWords, "a ring needs codes of at most 64 words");
    require(n > 0 && n <= parts.n_blocks * kLanes, "least must have one entry a cluster");
    auto ring = std::make_unique<Ring>();
    ring->centres.chunks.push_back(parts.centres);
    ring->centres.blocks_per_chunk = parts.n_blocks;
    ring->centres.n_codes = n;
    ring->centres.n_words = segment.n_words;
    ring->first.assign(parts.first, parts.first + n + 1);
    ring->starts.assign(parts.starts, parts.starts + parts.n_starts);
    require(ring->first.front() == 0 && ring->first.back() == ring->starts.size(), "first must end where starts does");
    for (size_t i = 0; i < ring->starts.size(); ++i)
        require(ring->starts[i] <= segment.n_codes && (i == 0 || ring->starts[i - 1] <= ring->starts[i]),
                "starts must be slots in ascending order");
    for (size_t c = 0; c < n; ++c) {
        require(ring->first[c] + 2 <= ring->first[c + 1] && ring->first[c + 1] <= ring->starts.size(),
                "each cluster must have a ring and an end mark");
        const uint32_t rings = ring->first[c + 1] - ring->first[c] - 1;
        require(parts.least[c] + uint64_t{rings} - 1 <= 64 * segment.n_words, "radii must be distances");
        ring->add_cluster(parts.least[c], parts.least[c] + rings - 1);
    }
    return ring;
}

size_t measure_centres(const Ring& ring, const Probe& probe, FindFn find, RingScratch& scratch) {
    const Segment& centres = ring.centres;
    scratch.distances.resize(centres.n_blocks() * kLanes);
    Hit hit;
    size_t nearest = 0;
    int16_t least = std::numeric_limits<int16_t>::max();
    for (size_t b = 0; b < centres.n_blocks(); ++b) {
        find(centres.block(b), 0, 1, probe, std::numeric_limits<uint32_t>::max(), hit);
        // 16 bits, so that the compiler works on many clusters at once.
        int16_t* out = scratch.distances.data() + b * kLanes;
        for (size_t i = 0; i < kLanes; ++i) out[i] = static_cast<int16_t>(hit.distances[i]);
        const size_t lanes = std::min(kLanes, ring.n_clusters - b * kLanes);
        for (size_t i = lanes; i < kLanes; ++i) out[i] = std::numeric_limits<int16_t>::max() / 2;
        int16_t least_here = out[0];
        for (size_t i = 0; i < kLanes; ++i) least_here = std::min(least_here, out[i]);
        if (least_here < least) {
            least = least_here;
            nearest = b * kLanes + static_cast<size_t>(std::find(out, out + kLanes, least) - out);
        }
    }
    return nearest;
}

size_t survivors(const Ring& ring, int64_t bound, size_t budget, RingScratch& scratch) {
    // Sums stay far below 2^15, the padding's too: distances and bounds are at most 64 * kMaxRingWords = 2^12.
    const int16_t reach = static_cast<int16_t>(bound);
    scratch.candidates.clear();
    size_t cost = 0;
    for (size_t from = 0; from < ring.n_clusters; from += kLanes) {
        const int16_t* distances = scratch.distances.data() + from;
        const int16_t* least = ring.least.data() + from;
        const int16_t* most = ring.most.data() + from;
        alignas(8) int8_t near[kLanes];
        for (size_t i = 0; i < kLanes; ++i)
            near[i] = static_cast<int8_t>((static_cast<int16_t>(distances[i] + reach) >= least[i]) &
                                          (static_cast<int16_t>(distances[i] - reach) <= most[i]));
        for (size_t eight = 0; eight < kLanes; eight += sizeof(uint64_t)) {
            uint64_t any;
            std::memcpy(&any, near + eight, sizeof any);
            if (any == 0) continue;
            for (size_t i = eight; i < eight + sizeof(uint64_t); ++i) {
                if (!near[i] || scratch.visited[from + i]) continue;
                const auto [begin, end] = surviving(ring, from + i, distances[i], bound);
                if (begin == end) continue;
                cost += end - begin + kCodesPerRange;
                scratch.candidates.push_back(static_cast<uint64_t>(distances[i]) << 32 | (from + i));
            }
        }
        if (cost > budget) return cost;
    }
    return cost;
}

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
