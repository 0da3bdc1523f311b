// Detection: registers in, features out; and the dispatcher: features in, kernels out.
#include <string>
#include <vector>

#include "hamming/cpu/cpu.h"
#include "hamming/kernels/dispatch.h"
#include "hamming/kernels/target.h"
#include "test.h"

namespace pyhash {
namespace test {
namespace {

constexpr uint32_t kAllX86 = kAvx512Target | kVnniTarget;  // asks for every x86 feature there is

// A CPU that offers everything, under a system that saves every register.
X86Registers full_machine() {
    X86Registers r;
    r.max_leaf = 7;
    r.leaf1_ecx = 1u << 23 | 1u << 27;                                // POPCNT, OSXSAVE
    r.leaf7_ebx = 1u << 5 | 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;  // AVX2, AVX-512 F, DQ, BW, VL
    r.leaf7_ecx = 1u << 11 | 1u << 14;                                // VNNI, VPOPCNTDQ
    r.xcr0 = 0xe7;                                                    // x87, XMM, YMM, masks, both parts of ZMM
    return r;
}

std::vector<std::string> names(uint32_t features) {
    std::vector<std::string> list;
    for (const Kernel* kernel : runnable_kernels(features)) list.push_back(kernel->name);
    return list;
}

void features() {
    const X86Registers full = full_machine();
    X86Registers r = full;
    CHECK(features_of(full) == kAllX86);
    CHECK(features_of(X86Registers{}) == 0);

    r.max_leaf = 0;
    CHECK(features_of(r) == 0);
    for (const uint32_t max_leaf : {1u, 6u}) {  // what leaf 7 holds is not to be believed
        r.max_leaf = max_leaf;
        CHECK(features_of(r) == kPopcnt);
    }
    r = full;
    r.max_leaf = 0x20;
    CHECK(features_of(r) == kAllX86);

    r = full;
    r.leaf1_ecx &= ~(1u << 27);  // no OSXSAVE: XCR0 was not read, whatever it seems to hold
    CHECK(features_of(r) == kPopcnt);
    r = full;
    r.leaf1_ecx &= ~(1u << 23);
    CHECK(features_of(r) == (kAllX86 & ~kPopcnt));

    r = full;
    r.xcr0 = 0x07;  // YMM only
    CHECK(features_of(r) == (kPopcnt | kAvx2));
    for (const uint64_t ymm : {0x00u, 0x01u, 0x02u, 0x03u, 0x04u, 0x05u}) {  // not both halves of YMM, so no ZMM either
        r.xcr0 = ymm | 0xe0;
        CHECK_IN(features_of(r) == kPopcnt, "xcr0", r.xcr0);
    }
    for (uint64_t zmm = 0; zmm < 7; ++zmm) {  // some part of the 512-bit state is not saved
        r.xcr0 = 0x07 | zmm << 5;
        CHECK_IN(features_of(r) == (kPopcnt | kAvx2), "xcr0", r.xcr0);
    }
    r.xcr0 = ~uint64_t{0};  // states that nobody has thought of yet
    CHECK(features_of(r) == kAllX86);

    // Each bit stands for its own feature and no other.
    const struct {
        uint32_t X86Registers::*leaf;
        int bit;
        uint32_t feature;
    } bits[] = {
        {&X86Registers::leaf1_ecx, 23, kPopcnt},   {&X86Registers::leaf7_ebx, 5, kAvx2},
        {&X86Registers::leaf7_ebx, 16, kAvx512F},  {&X86Registers::leaf7_ebx, 17, kAvx512Dq},
        {&X86Registers::leaf7_ebx, 30, kAvx512Bw}, {&X86Registers::leaf7_ebx, 31, kAvx512Vl},
        {&X86Registers::leaf7_ecx, 14, kAvx512Vpopcntdq},
        {&X86Registers::leaf7_ecx, 11, kAvx512Vnni},
    };
    for (const auto& b : bits) {
        r = full;
        r.*b.leaf &= ~(1u << b.bit);
        CHECK_IN(features_of(r) == (kAllX86 & ~b.feature), "bit", b.bit);
        r = X86Registers{};
        r.max_leaf = 7;
        r.leaf1_ecx = 1u << 27;
        r.xcr0 = 0xe7;
        r.*b.leaf |= 1u << b.bit;
        CHECK_IN(features_of(r) == b.feature, "bit", b.bit);
    }
}

void feature_names() {
    uint32_t all = 0;
    for (const FeatureName& f : kFeatureNames) {
        CHECK_IN((all & f.feature) == 0, f.name);
        all |= f.feature;
    }
    CHECK(all == (kAllX86 | kNeon | kDotprod));
    for (const Kernel* kernel : compiled_kernels()) CHECK_IN((kernel->features & ~all) == 0, kernel->name);
}

void dispatch() {
    using Names = std::vector<std::string>;
    CHECK(names(0) == Names{"scalar"});
    CHECK(names(~0u).size() == compiled_kernels().size());
    CHECK(std::string(compiled_kernels().back()->name) == "scalar");
#if defined(__x86_64__) || defined(_M_X64)
    CHECK(names(kAllX86) == (Names{"avx512", "avx2", "scalar"}));
    CHECK(names(kAllX86 & ~kAvx512Vpopcntdq) == (Names{"avx2", "scalar"}));  // Skylake-X, Cascade Lake
    CHECK(names(kAllX86 & ~kAvx512Vl) == (Names{"avx2", "scalar"}));         // Knights Mill
    CHECK(names(kPopcnt | kAvx2) == (Names{"avx2", "scalar"}));
    CHECK(names(kAvx2) == Names{"scalar"});
    CHECK(names(kPopcnt) == Names{"scalar"});
    CHECK(names(kNeon) == Names{"scalar"});
#elif defined(__aarch64__) || defined(_M_ARM64)
    CHECK(names(kNeon) == (Names{"neon", "scalar"}));
    CHECK(names(kAllX86) == Names{"scalar"});
#endif
    for (uint32_t features = 0; features < 2 * kDotprod; ++features) {
        const std::vector<const Kernel*> kernels = runnable_kernels(features);
        CHECK(!kernels.empty());
        for (const Kernel* kernel : kernels) CHECK_IN((kernel->features & ~features) == 0, kernel->name, features);
    }
}

}  // namespace

void test_cpu() {
    run("cpu/features", features);
    run("cpu/feature_names", feature_names);
    run("cpu/dispatch", dispatch);
}

}  // namespace test
}  // namespace pyhash
