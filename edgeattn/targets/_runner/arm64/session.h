/* What runner.c needs of a runtime: one file loaded, fed, run, and its outputs saved. litert.c and onnxruntime.c have
 * it; what a runtime refuses ends the process, in the runtime's own words. */
#pragma once
#include "job.h"

struct session;

/* Load the job's artifact; `profiled`: for profile() alone. What the runtime calls itself is known then. */
struct session *load(const struct job *, int profiled);
const struct names *outputs_of(const struct session *);
extern const char *runtime;
const char *runtime_version(void);
void feed(struct session *, const struct job *);
void run(struct session *);
/* Save the outputs of the last run; `number` 0 is none. */
void save(struct session *, const char *which, long number);

/* Run in a session of its own while more(calls so far), and note the names, kinds and times of the operators. The times
 * of the first call do not count, as it lays out memory. */
void profile(const struct job *, struct operators *, int (*more)(int calls));
/* What else is to be said of these times. */
extern const char profiler_note[];
