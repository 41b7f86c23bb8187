// Launches a kernel and describes a failure.
#pragma once

#include <cuda_runtime.h>

#include <string>

namespace ms_deform_attn::cuda {

constexpr int kThreads = 256;
constexpr int64_t kMaxBlocks = (int64_t(1) << 31) - 1;

inline int64_t divide_up(int64_t number, int64_t by) { return (number + by - 1) / by; }

#define MSDA_TEXT(...) #__VA_ARGS__
#define MSDA_TEXT_OF(...) MSDA_TEXT(__VA_ARGS__)

inline std::string error_message(cudaError_t error) {
  if (error == cudaSuccess) return {};
  std::string text = cudaGetErrorString(error);
  cudaGetLastError();  // or the next call to CUDA reports it again
  int device = 0;
  cudaDeviceProp gpu{};
  if (cudaGetDevice(&device) == cudaSuccess &&
      cudaGetDeviceProperties(&gpu, device) == cudaSuccess) {
    text += std::string("; the GPU is ") + gpu.name + ", compute capability " +
            std::to_string(gpu.major) + "." + std::to_string(gpu.minor);
  }
  return text + "; the kernels were built for " MSDA_TEXT_OF(__CUDA_ARCH_LIST__) +
         " (set TORCH_CUDA_ARCH_LIST and build again for another)";
}

// Blocks of kThreads; no blocks are no work.
template <typename... Parameters, typename... Arguments>
std::string launch(void (*kernel)(Parameters...), int64_t blocks, void* stream,
                   const Arguments&... arguments) {
  if (blocks == 0) return {};
  if (blocks > kMaxBlocks) return "the inputs are too large for one launch";
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(unsigned(blocks));
  config.blockDim = dim3(kThreads);
  config.stream = static_cast<cudaStream_t>(stream);
  return error_message(cudaLaunchKernelEx(&config, kernel, arguments...));
}

}  // namespace ms_deform_attn::cuda
