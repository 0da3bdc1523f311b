#include "hamming/ring/clusters.h"

#include <random>

namespace pyhash {

std::vector<uint64_t> sample_rows(const Segment& segment, size_t n, uint64_t seed) {
    std::vector<uint64_t> rows(n * segment.n_words);
    std::mt19937_64 random(seed);
    for (size_t i = 0; i < n; ++i) {
        const size_t begin = segment.n_codes * i / n;
        const size_t end = segment.n_codes * (i + 1) / n;
        segment.row(begin + random() % (end - begin), rows.data() + i * segment.n_words);
    }
    return rows;
}

// The centre that is nearest to a set of codes in sum is their bitwise majority.
std::vector<uint64_t> train_centres(const Kernel& kernel, const std::vector<uint64_t>& rows, size_t n_words, size_t n_clusters, unsigned threads) {
    constexpr size_t kTrainingRounds = 4;
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

}  // namespace pyhash
