// How threads of all blocks sum up the gradient of the value.
#pragma once

#include "vector.h"

namespace ms_deform_attn::cuda {

// Floating point: fast; the last bits depend on the order of the threads.
template <typename A>
struct FloatingSums {
  A* sums;

  __device__ FloatingSums(const Inputs&, const Workspace& workspace)
      : sums(static_cast<A*>(workspace.sums)) {}

  template <int N>
  __device__ __forceinline__ void add(A* sum, const Vector<A, N>& amount) const {
    atomic_add<N>(sum, amount);
  }

  __device__ __forceinline__ A sum(int64_t i) const { return sums[i]; }
};

// Floating-point numbers without sign are ordered as their bits are, NaN above all.
template <typename A>
__device__ __forceinline__ void raise_bound(A* bound, A number) {
  using Bits = std::conditional_t<std::is_same_v<A, double>, unsigned long long, unsigned>;
  Bits bits;
  memcpy(&bits, &number, sizeof(bits));
  Bits* address = reinterpret_cast<Bits*>(bound);
  if (bits > *address) atomicMax(address, bits);
}

// Integers whose unit is a power of two: sums of them do not depend on any order. Two bounds, on
// the gradient of the output and on the weights, say how large a sum can become, and so the unit.
template <typename A>
struct IntegerSums {
  unsigned long long* sums;
  A* bounds;
  bool finite;  // no sum can be infinite or NaN
  int exponent;  // of the unit, negated

  __device__ IntegerSums(const Inputs& inputs, const Workspace& workspace)
      : sums(static_cast<unsigned long long*>(workspace.sums)),
        bounds(static_cast<A*>(workspace.bounds)) {
    const Shape& shape = inputs.shape;
    const A weight = inputs.reference_dims == 0 ? bounds[1] : A(1);  // a softmax is at most 1
    const A summands = A(shape.num_queries) * A(shape.num_levels * shape.num_points);
    const A largest = bounds[0] * weight * summands;
    finite = isfinite(largest);
    exponent = finite && largest > 0 ? 61 - ilogb(largest) : 0;
  }

  template <int N>
  __device__ __forceinline__ void add(unsigned long long* sum, const Vector<A, N>& amount) const {
    static_assert(N == 1);
    const A scaled = ldexp(amount.at[0], exponent);
    if (fabs(scaled) <= A(1ll << 62)) {
      atomicAdd(sum, static_cast<unsigned long long>(llrint(scaled)));
    } else {
      raise_bound(bounds, A(NAN));
    }
  }

  __device__ __forceinline__ A sum(int64_t i) const {
    return finite ? ldexp(A(static_cast<long long>(sums[i])), -exponent) : A(NAN);
  }
};

}  // namespace ms_deform_attn::cuda
