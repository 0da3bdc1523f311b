// What the CPU and the operating system offer of what the kernels ask for.
#pragma once

#include <cstdint>

namespace pyhash {

enum Feature : uint32_t {
    kPopcnt = 1u << 0,
    kAvx2 = 1u << 1,
    kAvx512F = 1u << 2,
    kAvx512Bw = 1u << 3,
    kAvx512Dq = 1u << 4,
    kAvx512Vl = 1u << 5,
    kAvx512Vpopcntdq = 1u << 6,
    kNeon = 1u << 7,
    kAvx512Vnni = 1u << 8,
    kDotprod = 1u << 9,
};

struct FeatureName {
    Feature feature;
    const char* name;
};

constexpr FeatureName kFeatureNames[] = {
    {kPopcnt, "popcnt"},     {kAvx2, "avx2"},         {kAvx512F, "avx512f"},
    {kAvx512Bw, "avx512bw"}, {kAvx512Dq, "avx512dq"}, {kAvx512Vl, "avx512vl"},
    {kAvx512Vpopcntdq, "avx512vpopcntdq"}, {kNeon, "neon"},
    {kAvx512Vnni, "avx512vnni"}, {kDotprod, "dotprod"},
};

// The registers that x86 detection reads, so that detection is a pure function that can be tested.
struct X86Registers {
    uint32_t max_leaf = 0;
    uint32_t leaf1_ecx = 0;
    uint32_t leaf7_ebx = 0;
    uint32_t leaf7_ecx = 0;
    uint64_t xcr0 = 0;  // read only where leaf1_ecx says OSXSAVE
};

uint32_t features_of(const X86Registers& registers);

// The features of this machine, detected once.
uint32_t cpu_features();

}  // namespace pyhash
