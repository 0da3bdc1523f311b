#include "hamming/dot/multiplier.h"

namespace pyhash {

const Multiplier* const kScalarMultipliers[] = {&kScalarMultiplier, nullptr};
#if defined(__x86_64__) || defined(_M_X64)
const Multiplier* const kAvx2Multipliers[] = {&kAvx2Multiplier, nullptr};
const Multiplier* const kAvx512Multipliers[] = {&kVnniMultiplier, &kAvx2Multiplier, nullptr};
#endif
#if defined(__aarch64__) || defined(_M_ARM64)
const Multiplier* const kNeonMultipliers[] = {
#if defined(PYHASH_DOTPROD)
    &kDotprodMultiplier,
#endif
    &kNeonMultiplier,
    nullptr,
};
#endif

const Multiplier& multiplier_of(const Kernel& kernel, uint32_t cpu_features) {
    const Multiplier* const* way = kernel.multipliers;
    while (way[1] != nullptr && ((*way)->features & ~cpu_features) != 0) ++way;
    return **way;
}

}  // namespace pyhash
