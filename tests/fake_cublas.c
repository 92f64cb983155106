/* The part of cuBLAS that the package calls, on the host: column-major products, and cuBLAS's checks of arguments. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { R_32F = 0, R_64F = 1, R_16F = 2, R_16BF = 14 }; /* cudaDataType */

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

static double half(unsigned short bits) {
  int exponent = bits >> 10 & 31, fraction = bits & 1023;
  double size = exponent == 31 ? (fraction ? NAN : INFINITY)
                               : ldexp(exponent ? 1024 + fraction : fraction, (exponent ? exponent : 1) - 25);
  return bits >> 15 ? -size : size;
}

static double bfloat(unsigned short upper) {
  unsigned int bits = (unsigned int)upper << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

static double at(const void *a, int type, long long i) {
  switch (type) {
    case R_64F: return ((const double *)a)[i];
    case R_16F: return half(((const unsigned short *)a)[i]);
    case R_16BF: return bfloat(((const unsigned short *)a)[i]);
    default: return ((const float *)a)[i];
  }
}

static int size_of(int type) { return type == R_64F ? 8 : type == R_32F ? 4 : 2; }

/* The combinations that the package uses: 16-bit numbers are summed in float32, for a float32 result. */
static int supported(int a, int b, int c, int compute) {
  if (a != b || (c != R_32F && c != R_64F)) return 0;
  return compute == (c == R_64F ? 70 : 68) && (a == c || (c == R_32F && (a == R_16F || a == R_16BF)));
}

static int product(void *handle, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int a_type,
                   int lda, const void *b, int b_type, int ldb, const void *beta, void *c, int c_type, int ldc,
                   int compute, int algorithm) {
  Handle *h = handle;
  ready = h->stream != NULL && h->workspace != NULL;
  if (!supported(a_type, b_type, c_type, compute) || algorithm != -1) return 15;
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
  int size = size_of(a_type), size_c = size_of(c_type);
  ++batched_calls;
  for (int i = 0; i < batch; ++i) {
    int status = product(handle, ta, tb, m, n, k, alpha, (const char *)a + size * a_next * i, a_type, lda,
                         (const char *)b + size * b_next * i, b_type, ldb, beta, (char *)c + size_c * c_next * i, c_type,
                         ldc, compute, algorithm);
    if (status) return status;
  }
  return 0;
}
