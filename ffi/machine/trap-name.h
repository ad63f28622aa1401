/* The abstract name of a client's end: what is the same for all who connect to a place, with their port in between. */
#pragma once
#include <stdint.h>

struct name_parts { uint32_t head_length, tail_length; char head[64], tail[64]; };
/* Of a sockaddr_un with such a name. */
enum { NAME_ROOM = 2 + 64 + 12 + 64 };

static int put_decimal(char *to, uint32_t value) {
  char digits[12];
  int count = 0, at = 0;
  do digits[count++] = '0' + value % 10;
  while (value /= 10);
  while (count > 0) to[at++] = digits[--count];
  return at;
}

/* @param address  gets a sockaddr_un @returns its length */
static uint32_t put_name(char *address, const struct name_parts *parts, uint32_t port) {
  uint32_t at = 2;
  address[0] = 1; /* AF_UNIX */
  address[1] = 0;
  for (uint32_t i = 0; i < parts->head_length; i++) address[at++] = parts->head[i];
  at += put_decimal(address + at, port);
  for (uint32_t i = 0; i < parts->tail_length; i++) address[at++] = parts->tail[i];
  return at;
}
