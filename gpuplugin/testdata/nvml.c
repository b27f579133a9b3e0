/* A stand-in for libnvidia-ml.so.1 with two GPUs, for tests on machines without
 * any. Files in the folder FAKE_NVML say what happens: gone, the driver is not
 * loaded; lost, the second GPU fell off the bus; ecc, the first one's memory
 * fails; xid, an error with the number in it, of the second. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int ret;
typedef struct { long n; } dev; /* 1 or 2 */
typedef unsigned int uint;
typedef unsigned long long ull;
typedef struct { ull total, free, used; } memory;
typedef struct { char legacy[16]; uint domain, bus, device, id, subsystem; char bus_id[32]; } pci;
typedef struct { uint gpu, memory; } rates;
typedef struct { dev device; ull type, data; uint gpu_instance, compute_instance; } event;

enum { NOT_SUPPORTED = 3, NOT_FOUND = 6, NOT_LOADED = 9, TIMEOUT = 10, IS_LOST = 15 };

static FILE *happened(const char *what) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", getenv("FAKE_NVML"), what);
  return fopen(path, "r");
}

static int is(const char *what) {
  FILE *f = happened(what);
  if (f) fclose(f);
  return f != NULL;
}

static const char *uuids[] = {"", "GPU-aaaa", "GPU-bbbb"};

ret nvmlInit_v2(void) { return is("gone") ? NOT_LOADED : 0; }
ret nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(ret r) { return r == IS_LOST ? "GPU is lost" : "error"; }
ret nvmlSystemGetDriverVersion(char *v, uint n) { strncpy(v, "550.54.15", n); return 0; }
ret nvmlDeviceGetCount_v2(uint *n) { *n = 2; return is("gone") ? NOT_LOADED : 0; }
ret nvmlDeviceGetHandleByIndex_v2(uint i, dev *d) { d->n = i + 1; return i == 1 && is("lost") ? IS_LOST : 0; }
ret nvmlDeviceGetHandleByUUID(const char *u, dev *d) {
  for (d->n = 1; d->n <= 2; d->n++)
    if (!strcmp(u, uuids[d->n])) return 0;
  return NOT_FOUND;
}
ret nvmlDeviceGetUUID(dev d, char *u, uint n) { strncpy(u, uuids[d.n], n); return 0; }
ret nvmlDeviceGetName(dev d, char *name, uint n) { strncpy(name, "NVIDIA H100 80GB HBM3", n); return 0; }
ret nvmlDeviceGetMemoryInfo(dev d, memory *m) { m->total = 81559ULL << 20; m->used = 1177ULL << 20; return 0; }
ret nvmlDeviceGetMinorNumber(dev d, uint *n) { *n = d.n - 1; return 0; }
ret nvmlDeviceGetPciInfo_v3(dev d, pci *p) { memset(p, 0, sizeof *p); sprintf(p->bus_id, "00000000:%ld0:00.0", d.n); return 0; }
ret nvmlDeviceGetBAR1MemoryInfo(dev d, memory *m) { m->total = 128ULL << 30; m->used = 1 << 20; return 0; }
ret nvmlDeviceGetPowerManagementLimit(dev d, uint *mw) { *mw = 700000; return 0; }
ret nvmlDeviceGetPowerUsage(dev d, uint *mw) { *mw = 123000; return 0; }
ret nvmlDeviceGetTemperature(dev d, int sensor, uint *c) { *c = 44; return 0; }
ret nvmlDeviceGetMaxClockInfo(dev d, int kind, uint *mhz) { *mhz = 1980; return 0; }
ret nvmlDeviceGetMaxPcieLinkGeneration(dev d, uint *n) { *n = 5; return 0; }
ret nvmlDeviceGetMaxPcieLinkWidth(dev d, uint *n) { *n = 16; return 0; }
ret nvmlDeviceGetDisplayMode(dev d, int *on) { *on = 0; return 0; }
ret nvmlDeviceGetPersistenceMode(dev d, int *on) { *on = 1; return 0; }
ret nvmlDeviceGetTotalEccErrors(dev d, int kind, int counter, ull *n) { *n = d.n == 1 && is("ecc") ? 2 : 0; return 0; }
ret nvmlDeviceGetMigMode(dev d, uint *now, uint *next) { return NOT_SUPPORTED; }
ret nvmlDeviceGetUtilizationRates(dev d, rates *r) { r->gpu = 17; r->memory = 5; return 0; }
ret nvmlDeviceGetEncoderUtilization(dev d, uint *percent, uint *us) { return NOT_SUPPORTED; }
ret nvmlDeviceGetDecoderUtilization(dev d, uint *percent, uint *us) { return NOT_SUPPORTED; }
ret nvmlDeviceGetSupportedEventTypes(dev d, ull *types) { *types = 8; return 0; }
ret nvmlDeviceRegisterEvents(dev d, ull types, dev set) { return 0; }
ret nvmlEventSetCreate(dev *set) { set->n = 1; return 0; }
ret nvmlEventSetFree(dev set) { return 0; }
ret nvmlEventSetWait_v2(dev set, event *e, uint ms) {
  static ull last; /* each error is reported once */
  for (uint waited = 0; waited < ms; waited += 10) {
    FILE *f = happened("xid");
    ull xid = 0;
    if (f) {
      if (fscanf(f, "%llu", &xid) != 1) xid = 0;
      fclose(f);
    }
    if (xid != 0 && xid != last) {
      memset(e, 0, sizeof *e);
      last = xid, e->device.n = 2, e->type = 8, e->data = xid;
      return 0;
    }
    usleep(10000);
  }
  return TIMEOUT;
}
