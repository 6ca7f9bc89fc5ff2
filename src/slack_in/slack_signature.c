/*
 * slack_signature.c
 *		Slack's request signatures (v0): pure C, for the fuzzer.
 */
#include "slack_in/slack_signature.h"
