// The ops for CUDA with the emulated kernels, registered for the CPU under a name of their own.
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#define ms_deform_attn ms_deform_attn_emulated
#define CUDA CPU
#define __CUDA_ARCH__ 900

#include "../../../ops/csrc/cuda/ms_deform_attn_cuda.cpp"
#include "../../../ops/csrc/cuda/backward.cu"
#include "../../../ops/csrc/cuda/forward.cu"
#include "../../../ops/csrc/ms_deform_attn.cpp"

// There is one device, and one stream of it.
extern "C" AOTITorchError aoti_torch_get_current_cuda_stream(int32_t, void** stream) {
  *stream = nullptr;
  return AOTI_TORCH_SUCCESS;
}

extern "C" AOTITorchError aoti_torch_create_device_guard(int32_t, DeviceGuardHandle* guard) {
  *guard = nullptr;
  return AOTI_TORCH_SUCCESS;
}
