/* The part of cuBLAS that the package calls, on the host: column-major products, and cuBLAS's checks of arguments. */
#include <stdlib.h>

typedef struct { void *stream, *workspace; } Handle;
int gemm_calls = 0, batched_calls = 0, handles = 0, ready = 0;

int cublasCreate_v2(void **handle) { *handle = calloc(1, sizeof(Handle)); ++handles; return 0; }
int cublasDestroy_v2(void *handle) { free(handle); --handles; return 0; }
int cublasSetStream_v2(void *handle, void *stream) {
  ((Handle *)handle)->stream = stream;
  ((Handle *)handle)->workspace = NULL; /* as the real one: setting a stream resets the workspace */
  return 0;
}
int cublasSetWorkspace_v2(void *handle, void *workspace, size_t size) {
  ((Handle *)handle)->workspace = size >= (32 << 20) ? workspace : NULL;
  return 0;
}

static double at(const void *a, int type, long long i) { return type ? ((const double *)a)[i] : ((const float *)a)[i]; }

static int product(void *handle, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int a_type,
                   int lda, const void *b, int b_type, int ldb, const void *beta, void *c, int c_type, int ldc,
                   int compute, int algorithm) {
  Handle *h = handle;
  ready = h->stream != NULL && h->workspace != NULL;
  if (a_type != b_type || a_type != c_type || compute != (c_type ? 70 : 68) || algorithm != -1) return 15;
  if (lda < 1 || ldb < 1 || ldc < 1 || lda < (ta ? k : m) || ldb < (tb ? n : k) || ldc < m) return 7;
  for (int j = 0; j < n; ++j) {
    for (int i = 0; i < m; ++i) {
      double sum = 0;
      for (int p = 0; p < k; ++p) {
        sum += at(a, a_type, ta ? p + (long long)i * lda : i + (long long)p * lda) *
               at(b, b_type, tb ? j + (long long)p * ldb : p + (long long)j * ldb);
      }
      long long to = i + (long long)j * ldc;
      double before = at(beta, c_type, 0) ? at(c, c_type, to) : 0; /* with beta 0, C is not read */
      double value = at(alpha, c_type, 0) * sum + at(beta, c_type, 0) * before;
      if (c_type) ((double *)c)[to] = value; else ((float *)c)[to] = (float)value;
    }
  }
  return 0;
}

int cublasGemmEx(void *handle, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int a_type,
                 int lda, const void *b, int b_type, int ldb, const void *beta, void *c, int c_type, int ldc,
                 int compute, int algorithm) {
  ++gemm_calls;
  return product(handle, ta, tb, m, n, k, alpha, a, a_type, lda, b, b_type, ldb, beta, c, c_type, ldc, compute,
                 algorithm);
}

int cublasGemmStridedBatchedEx(void *handle, int ta, int tb, int m, int n, int k, const void *alpha, const void *a,
                               int a_type, int lda, long long a_next, const void *b, int b_type, int ldb,
                               long long b_next, const void *beta, void *c, int c_type, int ldc, long long c_next,
                               int batch, int compute, int algorithm) {
  int size = c_type ? 8 : 4;
  ++batched_calls;
  for (int i = 0; i < batch; ++i) {
    int status = product(handle, ta, tb, m, n, k, alpha, (const char *)a + size * a_next * i, a_type, lda,
                         (const char *)b + size * b_next * i, b_type, ldb, beta, (char *)c + size * c_next * i, c_type,
                         ldc, compute, algorithm);
    if (status) return status;
  }
  return 0;
}
