// A small test harness, the slow reference, and codes to test with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "hamming/join/join.h"
#include "hamming/kernels/kernel.h"
#include "hamming/search/search.h"
#include "hamming/search/segment.h"

namespace pyhash {
namespace test {

// --- Harness: a test is a function that checks. The first failed check of a test ends it. ---

// True where instructions are expensive (emulation, sanitizers): the same cases, more thinly spread.
bool quick();
inline size_t full_or(size_t full, size_t thin) { return quick() ? thin : full; }

[[noreturn]] void fail(const char* file, int line, const std::string& what);

#define CHECK(condition) \
    do { \
        if (!(condition)) ::pyhash::test::fail(__FILE__, __LINE__, #condition); \
    } while (false)

// As CHECK, with words that say which case it was: CHECK_IN(a == b, "n_words", 3, "tau", tau).
#define CHECK_IN(condition, ...) \
    do { \
        if (!(condition)) \
            ::pyhash::test::fail(__FILE__, __LINE__, \
                                 std::string(#condition " with") + ::pyhash::test::words(__VA_ARGS__)); \
    } while (false)

inline std::string words() { return {}; }
inline std::string word(const char* text) { return text; }
inline std::string word(const std::string& text) { return text; }
template <class Number>
std::string word(Number number) {
    return std::to_string(number);
}
template <class First, class... Rest>
std::string words(const First& first, const Rest&... rest) {
    return " " + word(first) + words(rest...);
}

// Runs one test; its name is its id.
void run(const std::string& name, const std::function<void()>& test);

// Says that a test could not run here, and why.
void skip(const std::string& name, const std::string& why);

// Runs one test on every compiled kernel; its id is "name/kernel". What this CPU cannot run is skipped.
void run_on_kernels(const std::string& name, const std::function<void(const Kernel&)>& test);

// The kernel for tests that are not about kernels.
const Kernel& best_kernel();

// The groups of tests, one a file.
void test_cpu();
void test_kernels();
void test_slicers();
void test_topk();
void test_blocks();
void test_search();
void test_ring();
void test_join();
void test_pack();
void test_dot();
void test_threads();
void test_probes();
void test_concurrent();

// --- Random numbers: the same on every machine. ---

class Random {
public:
    explicit Random(uint64_t seed) : state_(seed) {}

    uint64_t word() {  // Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014
        uint64_t z = state_ += 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
    }
    size_t below(size_t n) { return static_cast<size_t>(word() % n); }
    bool one_in(size_t n) { return below(n) == 0; }

private:
    uint64_t state_;
};

// --- The reference: rows of words, one loop over bits. ---

struct Rows {
    size_t n_words = 0;
    std::vector<uint64_t> words;

    size_t size() const { return words.size() / n_words; }
    const uint64_t* row(size_t i) const { return words.data() + i * n_words; }
    uint64_t* row(size_t i) { return words.data() + i * n_words; }
    Queries queries() const { return {words.data(), size(), n_words}; }
};

uint64_t slow_distance(const uint64_t* a, const uint64_t* b, size_t n_words, const Metric& metric);

Rows uniform_rows(Random& random, size_t n, size_t n_words);
// Codes whose distances from `centre` spread over everything from 0 to all bits.
Rows rows_round(Random& random, size_t n, const uint64_t* centre, size_t n_words);
// Around `n_clusters` random centres, each bit flipped with a chance of one in `one_in`.
Rows clustered_rows(Random& random, size_t n, size_t n_words, size_t n_clusters, size_t one_in);
void flip_bits(Random& random, uint64_t* row, size_t n_words, size_t n_flips);  // distinct bits

// --- A store: rows in blocks, in memory that ends where the codes do, so that reading beyond it is caught. ---

class Store {
public:
    // Chunks of `blocks_per_chunk`; lanes behind the last code hold garbage. `misaligned`: memory at 8 bytes, no more.
    Store(Random& random, const Rows& rows, size_t blocks_per_chunk, bool misaligned = false);

    Segment segment;
    void set_ids(std::vector<int64_t> ids);
    void set_dead(const std::vector<bool>& dead);

    // By slot: what the reference needs.
    Rows rows;
    std::vector<int64_t> ids;
    std::vector<bool> dead;

private:
    std::vector<std::unique_ptr<uint64_t[]>> memory_;
    std::vector<uint64_t> dead_words_;
};

std::vector<uint64_t> bit_words(const std::vector<bool>& bits);  // a word a block

// Stores that are searched together, with masks of what is allowed or none. It refers to the stores.
struct Database {
    explicit Database(std::vector<const Store*> all, std::vector<std::vector<bool>> masks = {});
    Database(const Database&) = delete;

    size_t n_codes() const;

    std::vector<const Store*> stores;
    std::vector<std::vector<bool>> allowed;  // empty, or by store and slot
    Target target;

private:
    std::vector<std::vector<uint64_t>> allowed_words_;
};

// What the reference answers to queries, to be compared with what search does.
class Reference {
public:
    Reference(const Kernel& kernel, const Database& database, const Rows& queries, const Metric& metric);
    void check_topk(size_t k, unsigned threads = 1) const;
    void check_within(uint32_t radius, unsigned threads = 1, double dearer = 1) const;
    // Some candidates a query, at random: removed ones, repeated ones and none at all among them. Nothing is filtered.
    void check_rerank(Random& random, size_t n_slots, size_t k, unsigned threads = 1) const;

private:
    const Kernel& kernel_;
    const Database& database_;
    const Rows& queries_;
    const Metric& metric_;
    std::vector<std::vector<Candidate>> ranked_;  // by query: all that may be answered, in (distance, id) order
};

struct Pair {
    int64_t i;
    int64_t j;
    uint32_t distance;
};

// Pairs of one target, or of two, as a join finds them.
std::vector<Pair> joined(const Kernel& kernel, const Target& target, const Target* other, const Metric& metric, uint32_t radius,
                         unsigned threads, JoinReport* report = nullptr, double dearer = 1);

// A join of one database, or of two, beside the slow reference.
JoinReport check_pairs(const Kernel& kernel, const Database& database, uint32_t radius, unsigned threads = 1,
                       const Database* other = nullptr, const Metric& metric = {}, double dearer = 1);

}  // namespace test
}  // namespace pyhash
