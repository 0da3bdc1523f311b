#include "hamming/join/choose.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "hamming/cpu/bits.h"

namespace pyhash {
namespace {

// Nanoseconds on one core, as measured.
constexpr double kSort = 12;        // a code
constexpr double kSortWord = 3;     // a code, for each word of it
constexpr double kBucket = 1.2;     // a bucket and difference
constexpr double kVisit = 2.6;      // a code and difference whose bucket is not empty
constexpr double kLookup = 3;       // a row and difference
constexpr double kCompare = 0.7;    // a pair that meets
constexpr double kFarCompare = 4;   // the same of a lookup, whose buckets are far from one another

constexpr size_t kSplitSample = 512;       // codes by which bits are dealt to keys
constexpr size_t kMeetingSample = 1 << 15;  // codes by which meetings are estimated
constexpr size_t kMostDealt = 4;           // bits that are looked at, times those that are needed

// The bits of sampled codes, bit by bit.
class Columns {
public:
    Columns(const Sample& sample, const std::vector<uint32_t>& bits) : n_(sample.n), values_(bits.size() * sample.n) {
        for (size_t b = 0; b < bits.size(); ++b)
            for (size_t i = 0; i < n_; ++i)
                values_[b * n_ + i] = static_cast<uint8_t>(sample.row(i)[bits[b] / 64] >> bits[b] % 64 & 1);
    }
    const uint8_t* of(size_t b) const { return values_.data() + b * n_; }
    size_t n() const { return n_; }

    // How evenly a bit divides the codes: 0 to n^2 / 4.
    double balance(size_t b) const {
        double ones = 0;
        for (size_t i = 0; i < n_; ++i) ones += of(b)[i];
        return ones * (static_cast<double>(n_) - ones);
    }

private:
    size_t n_;
    std::vector<uint8_t> values_;
};

// Sampled codes that are still together, being equal in all bits of a key so far.
class Groups {
public:
    explicit Groups(size_t n) : of_(n, 0), sizes_{static_cast<uint32_t>(n)} {}

    bool all_apart() const { return sizes_.size() == of_.size(); }

    // Pairs that would be together still with this bit.
    double together(const uint8_t* column) {
        ones_.assign(sizes_.size(), 0);
        for (size_t i = 0; i < of_.size(); ++i) ones_[of_[i]] += column[i];
        double sum = 0;
        for (size_t g = 0; g < ones_.size(); ++g) {
            const double one = ones_[g];
            const double zero = sizes_[g] - one;
            sum += one * (one - 1) + zero * (zero - 1);
        }
        return sum;
    }

    void divide(const uint8_t* column) {
        std::vector<uint32_t> names(2 * sizes_.size(), std::numeric_limits<uint32_t>::max());
        std::vector<uint32_t> sizes;
        for (size_t i = 0; i < of_.size(); ++i) {
            uint32_t& name = names[2 * of_[i] + column[i]];
            if (name == std::numeric_limits<uint32_t>::max()) {
                name = static_cast<uint32_t>(sizes.size());
                sizes.push_back(0);
            }
            of_[i] = name;
            ++sizes[name];
        }
        sizes_.swap(sizes);
    }

private:
    std::vector<uint32_t> of_;
    std::vector<uint32_t> sizes_;
    std::vector<uint32_t> ones_;
};

// Deals bits to keys in turn, each time the one that leaves the fewest sampled codes together: bits that never change, or that
// follow from others of the key, come last.
std::vector<Key> deal(const Columns& columns, std::vector<uint32_t> bits, const std::vector<unsigned>& reaches,
                      const std::vector<unsigned>& widths) {
    std::vector<double> balances(bits.size());
    for (size_t b = 0; b < bits.size(); ++b) balances[b] = columns.balance(b);
    std::vector<uint8_t> dealt(bits.size(), 0);
    std::vector<Key> keys(reaches.size());
    std::vector<Groups> groups(reaches.size(), Groups(columns.n()));
    for (size_t k = 0; k < keys.size(); ++k) keys[k].reach = reaches[k];
    const unsigned most = *std::max_element(widths.begin(), widths.end());
    for (unsigned round = 0; round < most; ++round)
        for (size_t k = 0; k < keys.size(); ++k) {
            if (round >= widths[k]) continue;
            const bool apart = groups[k].all_apart();
            size_t best = bits.size();
            double best_together = 0;
            for (size_t b = 0; b < bits.size(); ++b) {
                if (dealt[b] != 0) continue;
                const double together = apart ? 0 : groups[k].together(columns.of(b));
                if (best == bits.size() || together < best_together ||
                    (together == best_together && balances[b] > balances[best])) {
                    best = b;
                    best_together = together;
                }
            }
            dealt[best] = 1;
            keys[k].bits.push_back(bits[best]);
            if (!apart) groups[k].divide(columns.of(best));
        }
    return keys;
}

// The share of all codes that a code meets in a key, itself left out.
double meeting_share(const Sample& codes, const Key& key, const std::vector<uint32_t>& masks) {
    const KeyReader value_of(key, codes.n_words);
    std::vector<uint32_t> counts(size_t{1} << key.bits.size(), 0);
    std::vector<uint32_t> values(codes.n);
    for (size_t i = 0; i < codes.n; ++i) ++counts[values[i] = value_of(codes.row(i), 1)];
    const size_t step = std::max<size_t>(1, codes.n * masks.size() >> 20);
    double met = 0;
    double asked = 0;
    for (size_t i = 0; i < codes.n; i += step) {
        for (uint32_t mask : masks) met += counts[values[i] ^ mask];
        met -= 1;
        asked += 1;
    }
    return met / asked / static_cast<double>(codes.n);
}

unsigned ceil_log2(double n) { return n <= 1 ? 0 : static_cast<unsigned>(std::ceil(std::log2(n))); }

}  // namespace

Sample sample(const Target& target, size_t most) {
    size_t n_codes = 0;
    size_t n_words = 0;
    for (const Segment* segment : target.segments) {
        n_codes += segment->n_codes;
        n_words = std::max(n_words, segment->n_words);
    }
    Sample sample{{}, 0, n_words};
    const size_t n = std::min(most, n_codes);
    sample.words.resize(n * n_words);
    uint64_t random = 0x9e3779b97f4a7c15u;
    size_t s = 0;
    size_t before = 0;
    for (size_t i = 0; i < n; ++i) {
        const size_t begin = n_codes * i / n;
        const size_t end = n_codes * (i + 1) / n;
        random = random * 6364136223846793005u + 1442695040888963407u;
        const size_t place = begin + static_cast<size_t>(random >> 33) % (end - begin);
        while (place - before >= target.segments[s]->n_codes) before += target.segments[s++]->n_codes;
        const size_t slot = place - before;
        if ((target.segments[s]->visible(slot / kLanes, nullptr) >> slot % kLanes & 1) == 0) continue;
        target.segments[s]->row(slot, sample.words.data() + sample.n * n_words);
        ++sample.n;
    }
    return sample;
}

double self_walk_ns(double n, const Key& key, double n_differences, double n_words, double meetings) {
    const double n_buckets = std::ldexp(1.0, static_cast<int>(key.bits.size()));
    const double pairs_of_buckets = (n_differences + 1) / 2;
    return n * (kSort + kSortWord * n_words) + pairs_of_buckets * (n_buckets * kBucket + n * kVisit) +
           meetings * (kCompare + 0.3 * n_words);
}

double lookup_ns(double n_rows, double n_differences, double n_words, double meetings) {
    return n_rows * (kSort + n_differences * kLookup) + meetings * (kFarCompare + 0.3 * n_words);
}

Choice choose_keys(const Sample& codes, size_t n, size_t n_rows, const std::vector<uint32_t>& bits, uint32_t radius,
                   double flat_ns) {
    Choice best{{}, flat_ns};
    if (codes.n < 64 || bits.empty()) return best;
    const double count = static_cast<double>(n);
    const unsigned log_n = ceil_log2(count);
    const unsigned widest = std::min(log_n + 1, kMostKeyBits);
    Sample few{{}, 0, codes.n_words};
    const size_t step = std::max<size_t>(1, codes.n / kSplitSample);
    for (size_t i = 0; i < codes.n && few.n < kSplitSample; i += step, ++few.n)
        few.words.insert(few.words.end(), codes.row(i), codes.row(i) + codes.n_words);

    for (uint32_t m = radius + 1; m >= 1; --m) {
        const unsigned reach = (radius + 1) / m - 1;
        const unsigned longer = (radius + 1) % m;  // keys that reach one farther
        if (reach + (longer != 0) > kMostReach) break;
        if (m > bits.size()) continue;
        // Wider keys where more differences multiply those that meet.
        constexpr unsigned kExtra[kMostReach + 1] = {0, 4, 7};
        std::vector<unsigned> reaches(m);
        std::vector<unsigned> widths(m);
        for (uint32_t k = 0; k < m; ++k) reaches[k] = reach + (k < longer);
        unsigned base = widest;
        const auto total = [&] {
            size_t sum = 0;
            for (uint32_t k = 0; k < m; ++k) sum += widths[k] = std::min(base + kExtra[reaches[k]], widest);
            return sum;
        };
        while (base > 1 && total() > bits.size()) --base;
        if (total() > bits.size()) continue;
        size_t left = bits.size() - total();
        for (uint32_t k = 0; k < m && left != 0; ++k)
            if (widths[k] < widest) ++widths[k], --left;
        // Even if codes were spread evenly, so many would meet.
        double least = 0;
        for (uint32_t k = 0; k < m; ++k) {
            const double n_differences = static_cast<double>(differences(widths[k], reaches[k]).size());
            const double meetings = std::ldexp(n_differences, -static_cast<int>(widths[k]));
            least += n_rows == 0 ? meetings * count * count / 2 * kCompare
                                 : meetings * count * static_cast<double>(n_rows) * kFarCompare;
        }
        if (least < best.ns) {
            std::vector<uint32_t> offered = bits;
            size_t needed = 0;
            for (unsigned width : widths) needed += width;
            if (offered.size() > kMostDealt * needed) {  // of very wide codes, those that divide best
                const Columns all(few, offered);
                std::vector<std::pair<double, uint32_t>> order;
                for (size_t b = 0; b < offered.size(); ++b) order.emplace_back(-all.balance(b), offered[b]);
                std::sort(order.begin(), order.end());
                offered.clear();
                for (size_t b = 0; b < kMostDealt * needed; ++b) offered.push_back(order[b].second);
            }
            std::vector<Key> keys = deal(Columns(few, offered), offered, reaches, widths);
            double ns = 0;
            for (const Key& key : keys) {
                const std::vector<uint32_t> masks = differences(static_cast<unsigned>(key.bits.size()), key.reach);
                const double n_masks = static_cast<double>(masks.size());
                const double met = meeting_share(codes, key, masks) * count;
                const double n_words = static_cast<double>(codes.n_words);
                ns += n_rows == 0 ? self_walk_ns(count, key, n_masks, n_words, met * count / 2)
                                  : count * (kSort + kSortWord * n_words) +
                                        lookup_ns(static_cast<double>(n_rows), n_masks, n_words, met * static_cast<double>(n_rows));
                if (ns >= best.ns) break;
            }
            if (ns < best.ns) best = {std::move(keys), ns};
        }
        if (reach == 0 && longer == 0 && base >= log_n) break;  // buckets are as small as they get, and differences the fewest
    }
    return best;
}

}  // namespace pyhash
