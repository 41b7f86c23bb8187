// What a CPU kernel reads and writes. Includes nothing of torch.
#pragma once

#include "../shape.h"

// Where a file can be compiled for an instruction set that the rest is not.
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__)
#define MSDA_X86_KERNELS
#endif

namespace ms_deform_attn::cpu {

// Half precision as it lies in memory.
struct Float16 {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

// The type of all arithmetic on values of type V, and of everything beside the value.
template <typename V>
struct MathOf {
  using type = float;
};
template <>
struct MathOf<double> {
  using type = double;
};
template <typename V>
using Math = typename MathOf<V>::type;

// With reference points, the coordinates are sampling offsets and the weights are logits; without,
// they are sampling locations and attention weights.
template <typename V>
struct Inputs {
  Shape shape;
  const Level* levels;
  const int64_t* order;  // of the queries of an image
  bool packed;           // see `forward`
  const V* value;        // contiguous, as everything here
  const Math<V>* coordinates;
  const Math<V>* weights;
  const Math<V>* reference_points;  // or nullptr
  int64_t reference_dims;           // 2 or 4
};

template <typename V>
struct Gradients {
  const V* output;
  V* value;              // packed
  Math<V>* value_sums;   // otherwise: zeros at first
  Math<V>* coordinates;
  Math<V>* weights;
  Math<V>* reference_points;  // (bs, num_queries, num_heads, num_levels, reference_dims)
};

// The kernels, once for each instruction set.
//
// forward writes the outputs of [begin, end). If packed, the range counts ordered queries within
// heads within images, and each head's pixels are copied into contiguous memory first; otherwise it
// counts heads within queries within images, and pixels are read from the value with its stride.
// backward writes the gradients of [begin, end), which counts heads within images.
#define MSDA_DECLARE_KERNELS(instruction_set)                                                  \
  namespace instruction_set {                                                                  \
  template <typename V>                                                                        \
  void forward(const Inputs<V>& inputs, V* output, int64_t begin, int64_t end);                \
  template <typename V>                                                                        \
  void backward(const Inputs<V>& inputs, const Gradients<V>& gradients, int64_t begin,         \
                int64_t end);                                                                  \
  }

MSDA_DECLARE_KERNELS(portable)
MSDA_DECLARE_KERNELS(avx2)
MSDA_DECLARE_KERNELS(avx512)

}  // namespace ms_deform_attn::cpu
