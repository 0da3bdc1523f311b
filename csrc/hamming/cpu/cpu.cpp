#include "hamming/cpu/cpu.h"

#if defined(__x86_64__) || defined(_M_X64)
#define PYHASH_X86_64 1
#if defined(_MSC_VER)
#include <immintrin.h>
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace pyhash {

uint32_t features_of(const X86Registers& r) {
    const auto bit = [](uint64_t value, int i) { return ((value >> i) & 1) != 0; };
    uint32_t features = 0;
    if (r.max_leaf < 1) return 0;
    if (bit(r.leaf1_ecx, 23)) features |= kPopcnt;
    // A wide register may be used only when the operating system saves it on a context switch: XCR0 bits 1 and 2 are
    // the 128- and 256-bit halves, 5 to 7 the mask registers and the two parts of the 512-bit state.
    const bool osxsave = bit(r.leaf1_ecx, 27);
    const bool saves_ymm = osxsave && (r.xcr0 & 0x06) == 0x06;
    const bool saves_zmm = osxsave && (r.xcr0 & 0xe6) == 0xe6;
    if (r.max_leaf < 7) return features;
    if (saves_ymm && bit(r.leaf7_ebx, 5)) features |= kAvx2;
    if (saves_zmm) {
        if (bit(r.leaf7_ebx, 16)) features |= kAvx512F;
        if (bit(r.leaf7_ebx, 17)) features |= kAvx512Dq;
        if (bit(r.leaf7_ebx, 30)) features |= kAvx512Bw;
        if (bit(r.leaf7_ebx, 31)) features |= kAvx512Vl;
        if (bit(r.leaf7_ecx, 14)) features |= kAvx512Vpopcntdq;
        if (bit(r.leaf7_ecx, 11)) features |= kAvx512Vnni;
    }
    return features;
}

namespace {

#if defined(PYHASH_X86_64)

void cpuid(uint32_t leaf, uint32_t out[4]) {
#if defined(_MSC_VER)
    int regs[4];
    __cpuidex(regs, static_cast<int>(leaf), 0);
    for (int i = 0; i < 4; ++i) out[i] = static_cast<uint32_t>(regs[i]);
#else
    __cpuid_count(leaf, 0, out[0], out[1], out[2], out[3]);
#endif
}

uint64_t read_xcr0() {
#if defined(_MSC_VER)
    return _xgetbv(0);
#else
    uint32_t low = 0, high = 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (static_cast<uint64_t>(high) << 32) | low;
#endif
}

uint32_t detect() {
    X86Registers r;
    uint32_t regs[4];
    cpuid(0, regs);
    r.max_leaf = regs[0];
    if (r.max_leaf >= 1) {
        cpuid(1, regs);
        r.leaf1_ecx = regs[2];
        if ((r.leaf1_ecx >> 27) & 1) r.xcr0 = read_xcr0();
    }
    if (r.max_leaf >= 7) {
        cpuid(7, regs);
        r.leaf7_ebx = regs[1];
        r.leaf7_ecx = regs[2];
    }
    return features_of(r);
}

#elif defined(__aarch64__) || defined(_M_ARM64)
// NEON is part of the base architecture; SDOT came later, and Apple's processors all have it.
uint32_t detect() {
#if defined(__ARM_FEATURE_DOTPROD)
    return kNeon | kDotprod;
#elif defined(__linux__)
    constexpr unsigned long kHwcapDotprod = 1ul << 20;  // HWCAP_ASIMDDP
    const bool has_dotprod = (getauxval(AT_HWCAP) & kHwcapDotprod) != 0;
    return has_dotprod ? kNeon | kDotprod : uint32_t{kNeon};
#else
    return kNeon;
#endif
}
#else
uint32_t detect() { return 0; }
#endif

}  // namespace

uint32_t cpu_features() {
    static const uint32_t features = detect();
    return features;
}

}  // namespace pyhash
