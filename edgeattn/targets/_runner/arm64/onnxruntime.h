/* What onnxruntime.c uses of onnxruntime's C API (MIT licence): a table of functions that onnxruntime only adds to, so
 * that each keeps its index. npm's package brings no header; the indices are those of onnxruntime_c_api.h, version 21,
 * in Debian's libonnxruntime-dev. */
#include <stddef.h>
#include <stdint.h>

enum { ORT_API_VERSION = 21 };
enum { ORT_LOGGING_LEVEL_ERROR = 3, ORT_ARENA_ALLOCATOR = 1, ORT_MEMORY_DEFAULT = 0 };

typedef struct OrtStatus OrtStatus; /* NULL is good */
typedef struct OrtEnv OrtEnv;
typedef struct OrtSession OrtSession;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtRunOptions OrtRunOptions;
typedef struct OrtAllocator OrtAllocator;
typedef struct OrtMemoryInfo OrtMemoryInfo;
typedef struct OrtValue OrtValue;
typedef struct OrtTensorTypeAndShapeInfo OrtTensorInfo;

typedef struct {
    void *to_2[2];
    const char *(*GetErrorMessage)(const OrtStatus *); /* 2 */
    OrtStatus *(*CreateEnv)(int level, const char *name, OrtEnv **);
    void *to_7[3];
    OrtStatus *(*CreateSession)(const OrtEnv *, const char *path, const OrtSessionOptions *, OrtSession **); /* 7 */
    void *to_9;
    OrtStatus *(*Run)(OrtSession *, const OrtRunOptions *, const char *const *input_names,
                      const OrtValue *const *inputs, size_t, const char *const *output_names, size_t,
                      OrtValue **outputs); /* 9 */
    OrtStatus *(*CreateSessionOptions)(OrtSessionOptions **);
    void *to_14[3];
    OrtStatus *(*EnableProfiling)(OrtSessionOptions *, const char *prefix); /* 14 */
    void *to_24[9];
    OrtStatus *(*SetIntraOpNumThreads)(OrtSessionOptions *, int); /* 24 */
    OrtStatus *(*SetInterOpNumThreads)(OrtSessionOptions *, int);
    void *to_30[4];
    OrtStatus *(*SessionGetInputCount)(const OrtSession *, size_t *); /* 30 */
    OrtStatus *(*SessionGetOutputCount)(const OrtSession *, size_t *);
    void *to_36[4];
    OrtStatus *(*SessionGetInputName)(const OrtSession *, size_t, OrtAllocator *, char **); /* 36 */
    OrtStatus *(*SessionGetOutputName)(const OrtSession *, size_t, OrtAllocator *, char **);
    void *to_49[11];
    OrtStatus *(*CreateTensorWithDataAsOrtValue)(const OrtMemoryInfo *, void *, size_t bytes, const int64_t *shape,
                                                 size_t rank, int element_type, OrtValue **); /* 49 */
    OrtStatus *(*IsTensor)(const OrtValue *, int *);
    OrtStatus *(*GetTensorMutableData)(OrtValue *, void **);
    void *to_60[8];
    OrtStatus *(*GetTensorElementType)(const OrtTensorInfo *, int *); /* 60 */
    OrtStatus *(*GetDimensionsCount)(const OrtTensorInfo *, size_t *);
    OrtStatus *(*GetDimensions)(const OrtTensorInfo *, int64_t *, size_t);
    void *to_64;
    OrtStatus *(*GetTensorShapeElementCount)(const OrtTensorInfo *, size_t *); /* 64 */
    OrtStatus *(*GetTensorTypeAndShape)(const OrtValue *, OrtTensorInfo **);
    void *to_69[3];
    OrtStatus *(*CreateCpuMemoryInfo)(int allocator, int memory, OrtMemoryInfo **); /* 69 */
    void *to_78[8];
    OrtStatus *(*GetAllocatorWithDefaultOptions)(OrtAllocator **); /* 78 */
    void *to_93[14];
    void (*ReleaseStatus)(OrtStatus *); /* 93 */
    void *to_96[2];
    void (*ReleaseValue)(OrtValue *); /* 96 */
    void *to_99[2];
    void (*ReleaseTensorTypeAndShapeInfo)(OrtTensorInfo *); /* 99 */
    void *to_110[10];
    OrtStatus *(*SessionEndProfiling)(OrtSession *, OrtAllocator *, char **path); /* 110 */
} OrtApi;

typedef struct {
    const OrtApi *(*GetApi)(uint32_t version);
    const char *(*GetVersionString)(void);
} OrtApiBase;

const OrtApiBase *OrtGetApiBase(void);
