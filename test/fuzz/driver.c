/*
 * driver.c
 *		Runs a libFuzzer target without libFuzzer: driver [runs [seed]]
 *
 * Inputs are random, or mutations of one of the last that were tried.  The
 * generator is deterministic: the same seed is the same run on every machine.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_INPUT 2048
#define POOL_SIZE 64

typedef struct Sample
{
	uint8_t bytes[MAX_INPUT];
	size_t length;
} Sample;

extern int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t state;

/* splitmix64 */
static uint64_t
next_random(void)
{
	uint64_t z = (state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static void
sample_invent(Sample *sample)
{
	sample->length = next_random() % (next_random() % MAX_INPUT + 1);
	for (size_t i = 0; i < sample->length; i++)
		sample->bytes[i] = (uint8_t) next_random();
}

static void
sample_cut(Sample *sample)
{
	size_t from = next_random() % sample->length;
	size_t rest = sample->length - from;
	size_t count = next_random() % rest + 1;

	memmove(sample->bytes + from, sample->bytes + from + count, rest - count);
	sample->length -= count;
}

static void
sample_bend(Sample *sample)
{
	for (uint64_t n = next_random() % 8 + 1; n > 0 && sample->length > 0; n--)
	{
		uint8_t *place = sample->bytes + next_random() % sample->length;

		switch (next_random() % 4)
		{
			case 0:
				*place ^= (uint8_t) (1 << next_random() % 8);
				break;
			case 1:
				*place = (uint8_t) next_random();
				break;
			case 2:
				*place += (uint8_t) (next_random() % 9 - 4);
				break;
			default:
				sample_cut(sample);
		}
	}
}

int
main(int argc, char **argv)
{
	static Sample pool[POOL_SIZE];
	unsigned long runs = argc > 1 ? strtoul(argv[1], NULL, 10) : 100000;

	state = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
	for (unsigned long i = 0; i < runs; i++)
	{
		Sample *sample = &pool[next_random() % POOL_SIZE];

		if (sample->length == 0 || next_random() % 3 == 0)
			sample_invent(sample);
		else
			sample_bend(sample);
		LLVMFuzzerTestOneInput(sample->bytes, sample->length);
	}
	printf("%lu runs\n", runs);
	return 0;
}
