/*
 * disk.c
 *		Preloaded into a server: a disk that is fast, and as full as a test says.
 *
 * fsync() does nothing, so that a server with fsync = on is as fast as the other
 * servers of the tests.  The free bytes of pg_wal's disk are those in the file that
 * STRIPE_SYNC_DISK names, if it is there.
 */
#define _GNU_SOURCE

#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

int
fsync(int fd)
{
	return 0;
}

int
fdatasync(int fd)
{
	return 0;
}

int
syncfs(int fd)
{
	return 0;
}

int
sync_file_range(int fd, off64_t from, off64_t length, unsigned int flags)
{
	return 0;
}

/* -1: the file says nothing */
static long
free_bytes(void)
{
	const char *name = getenv("STRIPE_SYNC_DISK");
	FILE *file = name != NULL ? fopen(name, "r") : NULL;
	long bytes = -1;

	if (file == NULL)
		return -1;
	if (fscanf(file, "%ld", &bytes) != 1)
		bytes = -1;
	fclose(file);
	return bytes;
}

int
statvfs(const char *restrict path, struct statvfs *restrict disk)
{
	int (*real)(const char *, struct statvfs *) = dlsym(RTLD_NEXT, "statvfs");
	int status = real(path, disk);
	long bytes = strcmp(path, "pg_wal") == 0 ? free_bytes() : -1;

	if (status == 0 && bytes >= 0)
		disk->f_bavail = bytes / disk->f_frsize;
	return status;
}
