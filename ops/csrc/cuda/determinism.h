// Whether deterministic algorithms are asked for.
#pragma once

#include <Python.h>

namespace ms_deform_attn::cuda {

// What torch.are_deterministic_algorithms_enabled() says: the stable ABI has no call for it.
inline bool deterministic_algorithms_enabled() {
  if (!Py_IsInitialized()) return false;
  const PyGILState_STATE state = PyGILState_Ensure();
  PyObject* torch = PyImport_ImportModule("torch");
  PyObject* answer =
      torch == nullptr
          ? nullptr
          : PyObject_CallMethod(torch, "are_deterministic_algorithms_enabled", nullptr);
  const bool enabled = answer != nullptr && PyObject_IsTrue(answer) == 1;
  PyErr_Clear();
  Py_XDECREF(answer);
  Py_XDECREF(torch);
  PyGILState_Release(state);
  return enabled;
}

}  // namespace ms_deform_attn::cuda
