// Packing: every kernel and type beside a loop over columns.
#include <cstring>
#include <limits>
#include <vector>

#include "hamming/cpu/cpu.h"
#include "hamming/pack/pack.h"
#include "test.h"

namespace pyhash {
namespace test {
namespace {

std::vector<const PackKernel*> kernels_here() {
    std::vector<const PackKernel*> kernels = {&kScalarPack};
    if (&pack_kernel(nullptr) != &kScalarPack) kernels.push_back(&pack_kernel(nullptr));
    return kernels;
}

template <class Number, class Limit, class Value, class Draw>
void check(PackFn<Number, Limit> pack, const Value& value, const Draw& draw, Random& random) {
    for (const size_t n_tiles : {0, 1, 2, 3, 8, 31})
        for (const size_t step : {size_t{0}, kTileColumns})
            for (const bool with_nan : {false, true}) {
                std::vector<Number> numbers(n_tiles * kTileColumns);
                std::vector<Limit> limits(step == 0 ? kTileColumns : n_tiles * kTileColumns);
                for (Number& x : numbers) x = draw(with_nan && random.one_in(40));
                for (Limit& t : limits) t = static_cast<Limit>(draw(false));
                if (step == 0)
                    for (Limit& t : limits) t = limits[0];
                std::vector<uint8_t> code(2 * n_tiles, 0xaa);
                bool nan = false;
                std::vector<uint8_t> expected(2 * n_tiles, 0);
                for (size_t c = 0; c < numbers.size(); ++c) {
                    const double x = value(numbers[c]);
                    const double t = value(static_cast<Number>(limits[c % kTileColumns + (step == 0 ? 0 : c / kTileColumns * step)]));
                    nan = nan || x != x;
                    if (x > t) expected[c / 8] = static_cast<uint8_t>(expected[c / 8] | 128 >> c % 8);
                }
                CHECK_IN((pack(numbers.data(), limits.data(), step, code.data(), n_tiles) != 0) == nan, "tiles", n_tiles);
                if (!nan) CHECK_IN(code == expected, "tiles", n_tiles, "step", step);
            }
}

double half(uint16_t bits) {  // of the few values that are drawn
    const int sign = (bits >> 15) != 0 ? -1 : 1;
    const unsigned exponent = bits >> 10 & 31;
    const unsigned fraction = bits & 1023;
    if (exponent == 31) return fraction != 0 ? std::numeric_limits<double>::quiet_NaN() : sign * std::numeric_limits<double>::infinity();
    double x = exponent == 0 ? fraction / 1024.0 : 1 + fraction / 1024.0;
    for (unsigned e = exponent == 0 ? 1 : exponent; e > 15; --e) x *= 2;
    for (unsigned e = exponent == 0 ? 1 : exponent; e < 15; ++e) x /= 2;
    return sign * x;
}

void every_type() {
    for (const PackKernel* kernel : kernels_here()) {
        Random random(31);
        const auto real = [&](bool nan) {
            if (nan) return std::numeric_limits<double>::quiet_NaN();
            if (random.one_in(20)) return (random.one_in(2) ? -1 : 1) * std::numeric_limits<double>::infinity();
            return static_cast<double>(random.below(7)) - 3 + (random.one_in(2) ? 0.25 : 0);
        };
        const auto same = [](auto x) { return static_cast<double>(x); };
        check<float, float>(kernel->f32, same, [&](bool nan) { return static_cast<float>(real(nan)); }, random);
        check<double, double>(kernel->f64, same, real, random);
        check<int8_t, int16_t>(kernel->i8, same, [&](bool) { return static_cast<int8_t>(random.word()); }, random);
        check<uint8_t, int16_t>(kernel->u8, same, [&](bool) { return static_cast<uint8_t>(random.word()); }, random);
        check<uint16_t, uint16_t>(
            kernel->f16, half,
            [&](bool nan) {
                const uint16_t bits = static_cast<uint16_t>(random.word());
                if (nan) return static_cast<uint16_t>(0x7e00);
                return bits == 0x8000 || (bits & 0x7c00) == 0x7c00 ? uint16_t{0} : bits;  // no limit is -0, none is NaN
            },
            random);
    }
}

void names() {
    CHECK(&pack_kernel("scalar") == &kScalarPack);
    CHECK(&pack_kernel("neon") == &pack_kernel(nullptr));
    CHECK((cpu_features() & pack_kernel(nullptr).features) == pack_kernel(nullptr).features);
}

}  // namespace

void test_pack() {
    run("pack/every type", every_type);
    run("pack/names", names);
}

}  // namespace test
}  // namespace pyhash
