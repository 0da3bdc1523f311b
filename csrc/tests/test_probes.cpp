// What only benchmarks need.
#include <vector>

#include "hamming/probes/probes.h"
#include "test.h"

namespace pyhash {
namespace test {
namespace {

void read() {
    Random random(1);
    std::vector<uint64_t> numbers(200);
    for (uint64_t& number : numbers) number = random.word();
    uint64_t expected = 0;
    for (size_t n = 0; n < numbers.size(); expected ^= numbers[n++])
        CHECK_IN(read_words(numbers.data(), n) == expected, "n", n);
}

void scan(const Kernel& kernel) {
    for (const size_t n_words : {1, 3, 64, 1024}) CHECK_IN(scan_cached(kernel, n_words, 5000) >= 5000, "n_words", n_words);
}

}  // namespace

void test_probes() {
    run("probes/read", read);
    run_on_kernels("probes/scan", scan);
}

}  // namespace test
}  // namespace pyhash
