// Many goroutines that resolve one name for both families at once and connect to every address; prints what came of it.
package main

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"
)

const goroutines = 8

func main() {
	name, port := os.Args[1], os.Args[2]
	rounds, err := strconv.Atoi(os.Args[3])
	if err != nil {
		panic(err)
	}
	var (
		lock           sync.Mutex
		all            sync.WaitGroup
		v4, v6, failed int
		slowest        time.Duration
	)
	work := func() {
		defer all.Done()
		for round := 0; round < rounds; round++ {
			began := time.Now()
			addresses, err := net.LookupIP(name)
			took := time.Since(began)
			var opened4, opened6, refused int
			if err != nil {
				refused++
			}
			for _, address := range addresses {
				connection, err := net.Dial("tcp", net.JoinHostPort(address.String(), port))
				if err != nil {
					refused++
					continue
				}
				connection.Close()
				if address.To4() != nil {
					opened4++
				} else {
					opened6++
				}
			}
			lock.Lock()
			v4, v6, failed = v4+opened4, v6+opened6, failed+refused
			if took > slowest {
				slowest = took
			}
			lock.Unlock()
		}
	}
	for i := 0; i < goroutines; i++ {
		all.Add(1)
		go work()
	}
	all.Wait()
	fmt.Printf("{\"v4\":%d,\"v6\":%d,\"failed\":%d,\"slowest_ms\":%.1f}\n",
		v4, v6, failed, float64(slowest.Microseconds())/1000)
}
