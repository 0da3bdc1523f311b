#include "dispatch.h"

#include <atomic>

#include "cpu.h"

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

namespace {
std::atomic<const Kernel*> active{nullptr};
}

const Kernel& active_kernel() {
    const Kernel* kernel = active.load(std::memory_order_relaxed);
    if (kernel == nullptr) {
        kernel = runnable_kernels(cpu_features()).front();
        active.store(kernel, std::memory_order_relaxed);
    }
    return *kernel;
}

bool set_active_kernel(const std::string& name) {
    for (const Kernel* kernel : runnable_kernels(cpu_features()))
        if (name == kernel->name) {
            active.store(kernel, std::memory_order_relaxed);
            return true;
        }
    return false;
}

}  // namespace pyhash
