/*
 * judge.c
 *		signature.c without a server: one question a line, one answer a line.
 *
 *	verify PAYLOAD HEADER SECRET[,SECRET...] NOW TOLERANCE
 *		-> fits N | unreadable | misfit | too_old | broken
 *	sign PAYLOAD SECRET AT
 *		-> the header | refused
 *	time PAYLOAD_LENGTH RUNS
 *		-> microseconds that one signature_verify() takes
 *
 * Payloads, headers and secrets are in hex, "-" being an empty one.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "inbox/signature.h"

#define MAX_SECRETS 8
#define MAX_WORDS	6

static const char *const verdict_names[] = {"fits", "unreadable", "misfit",
											"too_old", "broken"};

/* Decodes in place; the text is ours and longer than what it stands for. */
static size_t
unhex(char *text)
{
	size_t length = 0;

	if (strcmp(text, "-") == 0)
		return 0;
	for (; text[2 * length] != '\0'; length++)
	{
		char pair[3] = {text[2 * length], text[2 * length + 1], '\0'};

		text[length] = (char) strtoul(pair, NULL, 16);
	}
	return length;
}

static void
answer_verify(char **words)
{
	SignatureSecret secrets[MAX_SECRETS];
	int nsecrets = 0;
	int which = -1;
	size_t payload_length = unhex(words[1]);
	size_t header_length = unhex(words[2]);
	SignatureVerdict verdict;

	for (char *secret = strtok(words[3], ",");
		 secret != NULL && nsecrets < MAX_SECRETS; secret = strtok(NULL, ","))
	{
		secrets[nsecrets].bytes = secret;
		secrets[nsecrets++].length = unhex(secret);
	}
	verdict = signature_verify(words[1], payload_length, words[2], header_length,
							   secrets, nsecrets, strtoll(words[4], NULL, 10),
							   strtoll(words[5], NULL, 10), &which);
	if (verdict == SIGNATURE_FITS)
		printf("fits %d\n", which);
	else
		printf("%s\n", verdict_names[verdict]);
}

static void
answer_sign(char **words)
{
	char header[SIGNATURE_HEADER_SIZE];
	size_t payload_length = unhex(words[1]);
	SignatureSecret secret = {words[2], unhex(words[2])};

	if (signature_sign(words[1], payload_length, &secret,
					   strtoll(words[3], NULL, 10), header))
		printf("%s\n", header);
	else
		printf("refused\n");
}

static void
answer_time(char **words)
{
	size_t length = strtoul(words[1], NULL, 10);
	long runs = strtol(words[2], NULL, 10);
	char *payload = calloc(length + 1, 1);
	char header[SIGNATURE_HEADER_SIZE];
	SignatureSecret secret = {"whsec_0123456789abcdef0123456789abcdef", 38};
	struct timespec from, to;
	long fitting = 0;

	if (!signature_sign(payload, length, &secret, 1760000000, header))
		abort();
	clock_gettime(CLOCK_MONOTONIC, &from);
	for (long i = 0; i < runs; i++)
		fitting += signature_verify(payload, length, header, strlen(header),
									&secret, 1, 1760000000, 300,
									NULL) == SIGNATURE_FITS;
	clock_gettime(CLOCK_MONOTONIC, &to);
	if (fitting != runs)
		abort();
	printf("%.2f\n", ((double) (to.tv_sec - from.tv_sec) * 1e6 +
					  (double) (to.tv_nsec - from.tv_nsec) / 1e3) /
						 (double) runs);
	free(payload);
}

static int
split(char *line, char **words)
{
	int n = 0;

	for (char *save = NULL, *word = strtok_r(line, " \n", &save);
		 word != NULL && n < MAX_WORDS; word = strtok_r(NULL, " \n", &save))
		words[n++] = word;
	return n;
}

int
main(void)
{
	char *line = NULL;
	size_t size = 0;

	while (getline(&line, &size, stdin) > 0)
	{
		char *words[MAX_WORDS];
		int n = split(line, words);

		if (n == 6 && strcmp(words[0], "verify") == 0)
			answer_verify(words);
		else if (n == 4 && strcmp(words[0], "sign") == 0)
			answer_sign(words);
		else if (n == 3 && strcmp(words[0], "time") == 0)
			answer_time(words);
		else
			printf("what?\n");
		fflush(stdout);
	}
	free(line);
	return 0;
}
