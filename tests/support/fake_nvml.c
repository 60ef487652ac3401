/* A FAKE of NVIDIA's management library (libnvidia-ml.so.1) for tests on machines without a GPU.
 *
 * Written from the public API's signatures. It lets the real client (nvidia-ml-py) run unchanged against invented
 * GPUs; what it reports exists nowhere, and a test that uses it says nothing about real hardware.
 *
 * Build: cc -shared -fPIC -O1 -Wl,-soname,libnvidia-ml.so.1 -o libnvidia-ml.so.1 fake_nvml.c
 * Use:   LD_LIBRARY_PATH=folder FAKE_NVML_STATE=file program
 *
 * The state file is read at every call, so a test can change it. One line per GPU:
 *   NAME|UUID|MEMORY_MIB|ECC_UNCORRECTED|REMAPPING|FABRIC|STATE[|MILLIWATTS|CELSIUS]
 * Without the last two it has no sensors.
 * REMAPPING of memory rows: 0 nothing to say, 1 pending, 2 failed.
 * FABRIC: CLUSTER_BYTE.CLIQUE (the cluster's UUID is that byte 16 times), or "-" without one.
 * STATE: ok; lost (every query answers NVML_ERROR_GPU_IS_LOST); old (a driver without the newer calls).
 * Without the file the library is there and the driver is not (NVML_ERROR_DRIVER_NOT_LOADED). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, UNINIT = 1, INVAL = 2, NOTSUP = 3, NOSIZE = 7, NODRIVER = 9, LOST = 15 };
enum { GPUS_MAX = 64, FABRIC_COMPLETED = 3 };

typedef struct {
  char name[96], uuid[96], fabric[32], state[16];
  unsigned long long total_mib, ecc;
  int remapping, sensors;
  unsigned milliwatts, celsius;
} gpu_t;
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { char busIdLegacy[16]; unsigned domain, bus, device, pciDeviceId, pciSubSystemId; char busId[32]; } pci_t;
typedef struct { unsigned char cluster[16]; int status; unsigned clique; unsigned char state; } fabric_t;

static int inited;

static int load(gpu_t *gpus) {
  const char *name = getenv("FAKE_NVML_STATE");
  FILE *file = name ? fopen(name, "r") : NULL;
  char line[512];
  int count = 0;
  if (!file) return -1;
  while (count < GPUS_MAX && fgets(line, sizeof line, file)) {
    gpu_t x;
    memset(&x, 0, sizeof x);
    int read = sscanf(line, "%95[^|]|%95[^|]|%llu|%llu|%d|%31[^|]|%15[^|\n]|%u|%u", x.name, x.uuid, &x.total_mib, &x.ecc,
                      &x.remapping, x.fabric, x.state, &x.milliwatts, &x.celsius);
    x.sensors = read == 9;
    if (read == 7 || read == 9) gpus[count++] = x;
  }
  fclose(file);
  return count;
}

static int get(void *handle, gpu_t *out) {
  gpu_t gpus[GPUS_MAX];
  int count = load(gpus);
  long index = (long)handle - 1;
  if (!inited) return UNINIT;
  if (index < 0 || index >= count) return INVAL;
  *out = gpus[index];
  return strcmp(out->state, "lost") ? OK : LOST;
}

static int put(char *buffer, unsigned size, const char *text) {
  if (strlen(text) + 1 > size) return NOSIZE;
  strcpy(buffer, text);
  return OK;
}

#define QUERY gpu_t g; int failed = get(device, &g); if (failed) return failed
#define NEWER if (!strcmp(g.state, "old")) return NOTSUP

int nvmlInitWithFlags(unsigned flags) {
  gpu_t gpus[GPUS_MAX];
  (void)flags;
  if (load(gpus) < 0) return NODRIVER;
  inited = 1;
  return OK;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { inited = 0; return OK; }
const char *nvmlErrorString(int error) {
  switch (error) {
    case OK: return "Success";
    case UNINIT: return "Uninitialized";
    case INVAL: return "Invalid Argument";
    case NOTSUP: return "Not Supported";
    case NODRIVER: return "Driver Not Loaded";
    case LOST: return "GPU is lost";
    default: return "Unknown Error";
  }
}
int nvmlDeviceGetCount_v2(unsigned *count) {
  gpu_t gpus[GPUS_MAX];
  if (!inited) return UNINIT;
  *count = (unsigned)load(gpus);
  return OK;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
  gpu_t gpus[GPUS_MAX];
  if (!inited) return UNINIT;
  if ((int)index >= load(gpus)) return INVAL;
  *device = (void *)(long)(index + 1);
  return OK;
}
int nvmlDeviceGetName(void *device, char *buffer, unsigned size) { QUERY; return put(buffer, size, g.name); }
int nvmlDeviceGetUUID(void *device, char *buffer, unsigned size) { QUERY; return put(buffer, size, g.uuid); }
int nvmlDeviceGetSerial(void *device, char *buffer, unsigned size) {
  char serial[32];
  QUERY;
  NEWER;
  snprintf(serial, sizeof serial, "FAKE%08ld", (long)device);
  return put(buffer, size, serial);
}
int nvmlDeviceGetMemoryInfo(void *device, memory_t *memory) {
  QUERY;
  memory->total = memory->free = g.total_mib << 20;
  memory->used = 0;
  return OK;
}
int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) {
  QUERY;
  if (!g.sensors) return NOTSUP;
  *milliwatts = g.milliwatts;
  return OK;
}
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned *celsius) {
  QUERY;
  if (!g.sensors || sensor != 0) return NOTSUP;
  *celsius = g.celsius;
  return OK;
}
int nvmlDeviceGetTotalEccErrors(void *device, int type, int counter, unsigned long long *errors) {
  QUERY;
  NEWER;
  *errors = type == 1 && counter == 0 ? g.ecc : 0; /* uncorrected, since the driver was loaded */
  return OK;
}
int nvmlDeviceGetRemappedRows(void *device, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failure) {
  QUERY;
  NEWER;
  *corrected = *uncorrected = 0;
  *pending = g.remapping == 1;
  *failure = g.remapping == 2;
  return OK;
}
int nvmlDeviceGetPciInfo_v3(void *device, pci_t *pci) {
  QUERY;
  memset(pci, 0, sizeof *pci);
  pci->bus = 0x10 + (unsigned)(long)device;
  snprintf(pci->busId, sizeof pci->busId, "00000000:%02X:00.0", pci->bus);
  return OK;
}
int nvmlDeviceGetGpuFabricInfo(void *device, fabric_t *fabric) {
  unsigned byte = 0, clique = 0;
  QUERY;
  NEWER;
  memset(fabric, 0, sizeof *fabric);
  if (sscanf(g.fabric, "%u.%u", &byte, &clique) == 2) {
    memset(fabric->cluster, (int)byte, sizeof fabric->cluster);
    fabric->clique = clique;
    fabric->state = FABRIC_COMPLETED;
  }
  return OK;
}
