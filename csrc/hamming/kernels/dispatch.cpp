#include "hamming/kernels/dispatch.h"

namespace pyhash {

std::vector<const Kernel*> compiled_kernels() {
    return {
#if defined(__x86_64__) || defined(_M_X64)
        &kAvx512Kernel,
        &kAvx2Kernel,
#endif
#if defined(__aarch64__) || defined(_M_ARM64)
        &kNeonKernel,
#endif
        &kScalarKernel,
    };
}

std::vector<const Kernel*> runnable_kernels(uint32_t cpu_features) {
    std::vector<const Kernel*> runnable;
    for (const Kernel* kernel : compiled_kernels())
        if ((kernel->features & ~cpu_features) == 0) runnable.push_back(kernel);
    return runnable;
}

}  // namespace pyhash
