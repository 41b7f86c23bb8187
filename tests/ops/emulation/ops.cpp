// The CUDA ops with emulated kernels, registered for the CPU. The command line defines EMULATED_ARCH.
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace torch::stable {

// Tensors between margins that no kernel may touch.
constexpr int64_t kMargin = 64;  // elements
constexpr unsigned char kUntouched = 0xa5;
inline std::vector<Tensor> buffers;

inline Tensor between_margins(const Tensor& self, headeronly::IntHeaderOnlyArrayRef sizes,
                              std::optional<headeronly::ScalarType> dtype, int byte) {
  int64_t count = 1;
  for (const int64_t size : sizes) count *= size;
  Tensor buffer = new_empty(self, {count + 2 * kMargin}, dtype);
  std::memset(buffer.mutable_data_ptr(), kUntouched, buffer.numel() * buffer.element_size());
  const Tensor inside = narrow(buffer, 0, kMargin, count);
  std::memset(inside.mutable_data_ptr(), byte, count * buffer.element_size());
  buffers.push_back(buffer);
  return view(inside, sizes);
}

// All bits one are NaN in every floating-point type.
inline Tensor emulated_empty(const Tensor& self, headeronly::IntHeaderOnlyArrayRef sizes,
                             std::optional<headeronly::ScalarType> dtype = std::nullopt) {
  return between_margins(self, sizes, dtype, 0xff);
}

inline Tensor emulated_zeros(const Tensor& self, headeronly::IntHeaderOnlyArrayRef sizes,
                             std::optional<headeronly::ScalarType> dtype = std::nullopt) {
  return between_margins(self, sizes, dtype, 0);
}

}  // namespace torch::stable

#define ms_deform_attn ms_deform_attn_emulated
#define CUDA CPU
#define __CUDA_ARCH__ EMULATED_ARCH
#define new_empty emulated_empty
#define new_zeros emulated_zeros
#include "../../../ops/csrc/cuda/ms_deform_attn_cuda.cpp"
#include "../../../ops/csrc/cuda/backward.cu"
#include "../../../ops/csrc/cuda/forward.cu"
#include "../../../ops/csrc/ms_deform_attn.cpp"

// There is one device, and one stream of it, which can be made to fail.
static bool failing = false;

extern "C" AOTITorchError aoti_torch_get_current_cuda_stream(int32_t, void** stream) {
  *stream = failing ? &failing : nullptr;
  return AOTI_TORCH_SUCCESS;
}

extern "C" AOTITorchError aoti_torch_create_device_guard(int32_t, DeviceGuardHandle* guard) {
  *guard = nullptr;
  return AOTI_TORCH_SUCCESS;
}

// For the tests.
#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT void reverse_blocks(bool reversed) { emulation::reversed = reversed; }

EXPORT void fail_launches(bool fail) { failing = fail; }

EXPORT bool margins_are_untouched() {
  bool untouched = true;
  for (const auto& buffer : torch::stable::buffers) {
    const auto* begin = static_cast<const unsigned char*>(buffer.const_data_ptr());
    const auto* end = begin + buffer.numel() * buffer.element_size();
    const int64_t margin = torch::stable::kMargin * buffer.element_size();
    const auto is_untouched = [](unsigned char byte) { return byte == torch::stable::kUntouched; };
    untouched = untouched && std::all_of(begin, begin + margin, is_untouched) &&
                std::all_of(end - margin, end, is_untouched);
  }
  torch::stable::buffers.clear();
  return untouched;
}
