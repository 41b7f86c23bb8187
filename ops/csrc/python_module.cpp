// Lets Python import the extension; loading it registers the ops. Python's limited API alone.
#include <Python.h>

#ifdef WITH_CUDA
constexpr long kWithCuda = 1;
#else
constexpr long kWithCuda = 0;
#endif

PyMODINIT_FUNC PyInit__C(void) {
  static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_C", nullptr, -1, nullptr};
  PyObject* module = PyModule_Create(&definition);
  if (module != nullptr && PyModule_AddIntConstant(module, "with_cuda", kWithCuda) < 0) {
    Py_DECREF(module);
    return nullptr;
  }
  return module;
}
